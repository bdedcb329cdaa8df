// SPDX-License-Identifier: Apache-2.0
#include "services/common/stubs.h"

#include <vector>

#include "ccoe/v1/control.grpc.pb.h"
#include "ccoe/v1/inference.grpc.pb.h"
#include "ccoe/v1/routing.grpc.pb.h"
#include "ccoe/v1/routing.pb.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/common/server_runner.h"
#include "services/common/status_to_grpc.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::IsOk;
using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::Le;

TEST(BackoffTest, DoublesUpToTheLongestPause) {
  Backoff backoff(absl::Milliseconds(100), absl::Milliseconds(300));
  for (int expected_ms : {100, 200, 300, 300}) {
    const absl::Duration longest = absl::Milliseconds(expected_ms);
    EXPECT_THAT(backoff.Next(), AllOf(Ge(longest * 0.8), Le(longest)));
  }
}

TEST(BackoffTest, BeginsAgainAfterReset) {
  Backoff backoff(absl::Milliseconds(100), absl::Seconds(10));
  for (int i = 0; i < 5; ++i) backoff.Next();
  backoff.Reset();
  EXPECT_LE(backoff.Next(), absl::Milliseconds(100));
}

CallPolicy Quick() {
  CallPolicy policy;
  policy.deadline = absl::Minutes(1);
  policy.first_backoff = absl::Milliseconds(1);
  return policy;
}

TEST(UnaryCallTest, ReturnsTheResponse) {
  const auto answer = CallUnary<v1::RouteResponse>(
      "Routing.Route", Quick(), [](grpc::ClientContext*, v1::RouteResponse* response) {
        response->mutable_backbone()->set_worker_id("b0");
        return grpc::Status::OK;
      });
  ASSERT_THAT(answer, IsOk());
  EXPECT_EQ(answer->backbone().worker_id(), "b0");
}

TEST(UnaryCallTest, RetriesWhatIsUnavailableAndForgetsTheFailedResponse) {
  int calls = 0;
  const auto answer = CallUnary<v1::RouteResponse>(
      "Routing.Route", Quick(), [&calls](grpc::ClientContext*, v1::RouteResponse* response) {
        response->add_alternatives();
        return ++calls < 3 ? grpc::Status(grpc::UNAVAILABLE, "no connection") : grpc::Status::OK;
      });
  ASSERT_THAT(answer, IsOk());
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(answer->alternatives_size(), 1);
}

TEST(UnaryCallTest, GivesUpAfterTheLastAttemptAndNamesTheMethod) {
  int calls = 0;
  const absl::Status status = CallWithRetries("Routing.Route", Quick(), [&](grpc::ClientContext*) {
    ++calls;
    return grpc::Status(grpc::UNAVAILABLE, "no connection");
  });
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable,
                               AllOf(HasSubstr("Routing.Route"), HasSubstr("no connection"))));
  EXPECT_EQ(calls, 3);
}

TEST(UnaryCallTest, DoesNotRepeatWhatWillNotChange) {
  int calls = 0;
  const absl::Status status = CallWithRetries("Routing.Route", Quick(), [&](grpc::ClientContext*) {
    ++calls;
    return grpc::Status(grpc::NOT_FOUND, "expert \"tax\"");
  });
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(calls, 1);
}

TEST(UnaryCallTest, DoesNotWaitPastTheDeadline) {
  CallPolicy policy = Quick();
  policy.deadline = absl::Seconds(10);
  policy.first_backoff = absl::Hours(1);
  int calls = 0;
  EXPECT_THAT(CallWithRetries("Routing.Route", policy,
                              [&](grpc::ClientContext*) {
                                ++calls;
                                return grpc::Status(grpc::UNAVAILABLE, "no connection");
                              }),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(calls, 1);
}

TEST(UnaryCallTest, TellsTheHookOfEveryAttempt) {
  std::vector<absl::StatusCode> codes;
  CallPolicy policy = Quick();
  policy.on_attempt = [&](absl::string_view method, const absl::Status& status, absl::Duration) {
    EXPECT_EQ(method, "Routing.Route");
    codes.push_back(status.code());
  };
  int calls = 0;
  EXPECT_OK(CallWithRetries("Routing.Route", policy, [&](grpc::ClientContext*) {
    return ++calls == 1 ? grpc::Status(grpc::UNAVAILABLE, "") : grpc::Status::OK;
  }));
  EXPECT_THAT(codes, ElementsAre(absl::StatusCode::kUnavailable, absl::StatusCode::kOk));
}

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
