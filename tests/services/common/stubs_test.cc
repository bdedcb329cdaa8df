#include "services/common/stubs.h"

#include "ccoe/v1/control.grpc.pb.h"
#include "ccoe/v1/inference.grpc.pb.h"
#include "ccoe/v1/routing.grpc.pb.h"
#include "services/common/server_runner.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

class FakeRouting final : public v1::Routing::Service {
  grpc::Status Route(grpc::ServerContext*, const v1::RouteRequest* request,
                     v1::RouteResponse* response) override {
    if (request->expert() == "tax") return {grpc::NOT_FOUND, "expert \"tax\""};
    response->mutable_decision()->mutable_expert()->set_name(request->expert());
    return grpc::Status::OK;
  }
  grpc::Status ListExperts(grpc::ServerContext*, const v1::ListExpertsRequest*,
                           v1::ListExpertsResponse* response) override {
    response->add_experts();
    return grpc::Status::OK;
  }
};

class FakeControl final : public v1::Control::Service {
  grpc::Status GetStatus(grpc::ServerContext*, const v1::GetStatusRequest*,
                         v1::ClusterStatus* response) override {
    response->set_epoch(7);
    return grpc::Status::OK;
  }
  grpc::Status GetMoeStatistics(grpc::ServerContext*, const v1::GetMoeStatisticsRequest* request,
                                v1::MoeStatistics* response) override {
    ++moe_calls;
    if (request->reset()) return {grpc::UNAVAILABLE, "lost"};
    response->add_layers()->set_layer(request->layer());
    return grpc::Status::OK;
  }

 public:
  int moe_calls = 0;
};

class FakeInference final : public v1::Inference::Service {
  grpc::Status Tokenize(grpc::ServerContext*, const v1::TokenizeRequest* request,
                        v1::TokenizeResponse* response) override {
    response->set_text(request->text());
    return grpc::Status::OK;
  }
  grpc::Status Route(grpc::ServerContext*, const v1::RouteTextRequest*,
                     v1::Decision* response) override {
    response->set_rule("math-words");
    return grpc::Status::OK;
  }
};

class StubsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ServerOptions options;
    options.listen.clear();
    options.services = {{&routing_, v1::Routing::service_full_name()},
                        {&control_, v1::Control::service_full_name()},
                        {&inference_, v1::Inference::service_full_name()}};
    options.in_process_name = "all";
    options.registry = &registry_;
    ASSERT_OK_AND_ASSIGN(server_, ServerRunner::Start(std::move(options)));
    ASSERT_OK_AND_ASSIGN(channel_, registry_.Connect("all"));
  }

  FakeRouting routing_;
  FakeControl control_;
  FakeInference inference_;
  InProcessRegistry registry_;
  std::unique_ptr<ServerRunner> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(StubsTest, RoutingReturnsAnswersAndNamedErrors) {
  const auto stub = MakeRoutingStub(channel_);
  v1::RouteRequest request;
  request.set_expert("math");
  ASSERT_OK_AND_ASSIGN(const auto answer, stub->Route(request));
  EXPECT_EQ(answer.decision().expert().name(), "math");
  request.set_expert("tax");
  EXPECT_THAT(stub->Route(request), StatusIs(absl::StatusCode::kNotFound,
                                             AllOf(HasSubstr("Routing.Route"), HasSubstr("tax"))));
  ASSERT_OK_AND_ASSIGN(const auto experts, stub->ListExperts({}));
  EXPECT_EQ(experts.experts_size(), 1);
}

TEST_F(StubsTest, ControlReturnsTheStatus) {
  ASSERT_OK_AND_ASSIGN(const auto answer, MakeControlStub(channel_)->GetStatus({}));
  EXPECT_EQ(answer.epoch(), 7);
}

TEST_F(StubsTest, ControlReturnsWhatGatesChoseAndDoesNotRepeatAReset) {
  v1::GetMoeStatisticsRequest request;
  request.set_layer(3);
  const auto stub = MakeControlStub(channel_);
  ASSERT_OK_AND_ASSIGN(const auto answer, stub->GetMoeStatistics(request));
  EXPECT_EQ(answer.layers(0).layer(), 3);
  control_.moe_calls = 0;
  request.set_reset(true);
  EXPECT_THAT(stub->GetMoeStatistics(request), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(control_.moe_calls, 1);
}

TEST_F(StubsTest, InferenceReturnsItsUnaryAnswers) {
  const auto stub = MakeInferenceStub(channel_);
  v1::TokenizeRequest request;
  request.set_text("hi");
  ASSERT_OK_AND_ASSIGN(const auto tokens, stub->Tokenize(request));
  EXPECT_EQ(tokens.text(), "hi");
  ASSERT_OK_AND_ASSIGN(const auto decision, stub->Route({}));
  EXPECT_EQ(decision.rule(), "math-words");
  EXPECT_THAT(stub->ListExperts({}), StatusIs(absl::StatusCode::kUnimplemented));
}

TEST_F(StubsTest, AServerThatHasGoneIsUnavailable) {
  server_.reset();
  CallPolicy policy;
  policy.max_attempts = 1;
  EXPECT_THAT(MakeControlStub(channel_, policy)->GetStatus({}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("Control.GetStatus")));
}

}  // namespace
}  // namespace ccoe::services
