// SPDX-License-Identifier: Apache-2.0
#include "services/gateway/backbone_stubs.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/common/server_runner.h"
#include "tests/testing/fake_backbone.h"
#include "tests/testing/fake_control_stub.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::FakeBackbone;
using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(BackboneStubsTest, KeepsOneStubAnAddressUntilItIsForgotten) {
  InProcessRegistry registry;
  const ChannelFactory channels(&registry);
  BackboneStubs stubs(&channels);
  EXPECT_THAT(stubs.Get("inproc:b").status(), StatusIs(absl::StatusCode::kUnavailable));
  testing::FakeBackbone backbone(&registry, "b",
                                 [](const auto&, auto&, auto&) { return absl::OkStatus(); });
  ASSERT_OK_AND_ASSIGN(const auto first, stubs.Get("inproc:b"));
  ASSERT_OK_AND_ASSIGN(const auto again, stubs.Get("inproc:b"));
  EXPECT_EQ(first, again);
  stubs.Forget("inproc:b");
  ASSERT_OK_AND_ASSIGN(const auto fresh, stubs.Get("inproc:b"));
  EXPECT_NE(first, fresh);
  EXPECT_THAT(stubs.Get("nonsense").status(), StatusIs(absl::StatusCode::kInvalidArgument));
}

// Its expert is gone, it is not.
class RefusingBackbone final : public v1::Backbone::Service {
 public:
  grpc::Status Generate(grpc::ServerContext*, const v1::BackboneGenerateRequest*,
                        grpc::ServerWriter<v1::BackboneGenerateResponse>*) override {
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "an expert");
  }
};

grpc::StatusCode Ask(v1::Backbone::StubInterface& stub) {
  grpc::ClientContext context;
  const auto reader = stub.Generate(&context, {});
  v1::BackboneGenerateResponse response;
  while (reader->Read(&response)) {
  }
  return reader->Finish().error_code();
}

TEST(BackboneStubsTest, AConnectionThatStandsIsNotForgotten) {
  RefusingBackbone backbone;
  ServerOptions options;
  options.services = {{&backbone, std::string(v1::Backbone::service_full_name())}};
  ASSERT_OK_AND_ASSIGN(auto server, ServerRunner::Start(std::move(options)));
  const std::string address = server->addresses().front();
  const ChannelFactory channels(nullptr);
  BackboneStubs stubs(&channels);
  ASSERT_OK_AND_ASSIGN(const auto first, stubs.Get(address));
  EXPECT_EQ(Ask(*first), grpc::StatusCode::UNAVAILABLE);
  stubs.Forget(address);
  ASSERT_OK_AND_ASSIGN(const auto again, stubs.Get(address));
  EXPECT_EQ(first, again);
  server.reset();
  // The channel hears of it on a thread of gRPC's.
  std::shared_ptr<v1::Backbone::StubInterface> fresh = first;
  for (int i = 0; i < 1000 && fresh == first; ++i) {
    absl::SleepFor(absl::Milliseconds(10));
    stubs.Forget(address);
    ASSERT_OK_AND_ASSIGN(fresh, stubs.Get(address));
  }
  EXPECT_NE(fresh, first);
}

class MoeCollectorTest : public ::testing::Test {
 protected:
  // A backbone worker that counted `tokens` at layer 1.
  std::unique_ptr<FakeBackbone> Start(const std::string& name, std::vector<uint64_t> tokens) {
    auto backbone = std::make_unique<FakeBackbone>(
        &registry_, name, [](const auto&, auto&, auto&) { return absl::OkStatus(); });
    v1::MoeStatistics statistics;
    v1::MoeLayerStatistics* layer = statistics.add_layers();
    layer->set_layer(1);
    layer->set_rows(100);
    layer->mutable_tokens()->Add(tokens.begin(), tokens.end());
    backbone->SetMoeStatistics(statistics);
    Register(name, v1::WORKER_ROLE_BACKBONE);
    return backbone;
  }

  void Register(const std::string& name, v1::WorkerRole role) {
    v1::WorkerStatus* worker = router_.answer->add_workers();
    worker->set_worker_id(name);
    worker->set_role(role);
    worker->set_address("inproc:" + name);
  }

  absl::StatusOr<v1::MoeStatistics> Collect() {
    return CollectMoeStatistics(request_, router_, stubs_);
  }

  InProcessRegistry registry_;
  const ChannelFactory channels_{&registry_};
  BackboneStubs stubs_{&channels_};
  testing::FakeControlStub router_{v1::ClusterStatus()};
  v1::GetMoeStatisticsRequest request_;
};

TEST_F(MoeCollectorTest, AddsUpWhatAllBackboneWorkersCounted) {
  const auto first = Start("b0", {1, 2});
  const auto second = Start("b1", {10, 20});
  Register("e0", v1::WORKER_ROLE_EXPERT);  // is not asked
  request_.set_layer(1);
  ASSERT_OK_AND_ASSIGN(const v1::MoeStatistics total, Collect());
  ASSERT_EQ(total.layers_size(), 1);
  EXPECT_EQ(total.layers(0).rows(), 200u);
  EXPECT_THAT(total.layers(0).tokens(), ElementsAre(11, 22));
}

TEST_F(MoeCollectorTest, AWorkerThatDoesNotAnswerIsNamed) {
  const auto first = Start("b0", {1, 2});
  Register("b1", v1::WORKER_ROLE_BACKBONE);
  EXPECT_THAT(Collect(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("worker b1")));
}

TEST_F(MoeCollectorTest, CountsThatDoNotFitAreRefused) {
  const auto first = Start("b0", {1, 2});
  const auto second = Start("b1", {1, 2, 3});
  EXPECT_THAT(Collect(), StatusIs(absl::StatusCode::kInvalidArgument,
                                  AllOf(HasSubstr("worker b1"), HasSubstr("layer 1"))));
}

TEST_F(MoeCollectorTest, ALayerWithoutCountsIsNotFound) {
  request_.set_layer(7);
  EXPECT_THAT(Collect(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("layer 7")));
  request_.clear_layer();
  ASSERT_OK_AND_ASSIGN(const v1::MoeStatistics nothing, Collect());
  EXPECT_EQ(nothing.layers_size(), 0);
}

TEST_F(MoeCollectorTest, ARouterThatIsAwayIsTheAnswer) {
  router_.answer = absl::UnavailableError("router is away");
  EXPECT_THAT(Collect(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("away")));
}

}  // namespace
}  // namespace ccoe::services
