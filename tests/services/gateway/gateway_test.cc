// SPDX-License-Identifier: Apache-2.0
#include "services/gateway/gateway.h"

#include <atomic>
#include <memory>
#include <string>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "services/common/status_to_grpc.h"
#include "services/common/worker_server.h"
#include "services/router/router.h"
#include "tests/testing/fake_backbone.h"
#include "tests/testing/fake_control_stub.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::FakeBackbone;
using ::ccoe::testing::FakeControlStub;
using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

TEST(StatusServiceTest, PassesOnWhatTheRouterSaysErrorsIncluded) {
  FakeControlStub router(absl::UnavailableError("router is away"));
  const ChannelFactory channels(nullptr);
  BackboneStubs backbones(&channels);
  StatusService service(&router, &backbones);
  grpc::ServerContext context;
  const v1::GetStatusRequest request;
  v1::ClusterStatus status;
  EXPECT_EQ(service.GetStatus(&context, &request, &status).error_code(),
            grpc::StatusCode::UNAVAILABLE);
  router.answer = v1::ClusterStatus();
  router.answer->set_epoch(7);
  ASSERT_TRUE(service.GetStatus(&context, &request, &status).ok());
  EXPECT_EQ(status.epoch(), 7);
}

TEST(StatusServiceTest, WhatGatesChoseComesFromTheBackboneWorkersOrSaysWhyNot) {
  FakeControlStub router(absl::UnavailableError("router is away"));
  const ChannelFactory channels(nullptr);
  BackboneStubs backbones(&channels);
  StatusService service(&router, &backbones);
  grpc::ServerContext context;
  const v1::GetMoeStatisticsRequest request;
  v1::MoeStatistics statistics;
  EXPECT_EQ(service.GetMoeStatistics(&context, &request, &statistics).error_code(),
            grpc::StatusCode::UNAVAILABLE);
  router.answer = v1::ClusterStatus();
  EXPECT_TRUE(service.GetMoeStatistics(&context, &request, &statistics).ok());
  EXPECT_EQ(statistics.layers_size(), 0);
}

class GatewayTest : public ::testing::Test {
 protected:
  GatewayTest() {
    environment_.channels = &channels_;
    environment_.metrics = &metrics_;
    environment_.in_process = &registry_;
    options_.model_folder = testing::GoldenFolder("ccoe/backbone");
    options_.router = "inproc:router";
    options_.listen = {"127.0.0.1:0"};
  }

  void StartRouter() {
    RouterOptions options;
    options.serve.listen.clear();
    options.serve.in_process_name = "router";
    ASSERT_OK_AND_ASSIGN(router_, Router::Create(options, environment_));
  }

  // Registers a worker that serves as "inproc:b".
  std::unique_ptr<Registration> Register() {
    RegistrationOptions options;
    options.connect = [this] { return registry_.Connect("router"); };
    options.report = [] {
      v1::WorkerReport report;
      report.set_worker_id("b");
      report.set_role(v1::WORKER_ROLE_BACKBONE);
      report.set_address("inproc:b");
      report.set_model_fingerprint("m");
      report.set_ready(true);
      return report;
    };
    return std::make_unique<Registration>(std::move(options));
  }

  static bool AwaitReady(const Gateway& gateway) {
    const absl::Time deadline = absl::Now() + absl::Minutes(1);
    while (!gateway.ready().ok() && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(2));
    return gateway.ready().ok();
  }

  InProcessRegistry registry_;
  const ChannelFactory channels_{&registry_};
  telemetry::Metrics metrics_;
  RoleEnvironment environment_;
  GatewayOptions options_;
  std::unique_ptr<Router> router_;
};

TEST_F(GatewayTest, IsReadyOnceAWorkerReallyGeneratesAToken) {
  StartRouter();
  ASSERT_OK_AND_ASSIGN(const auto gateway, Gateway::Create(options_, environment_));
  EXPECT_FALSE(gateway->ready().ok());
  const std::unique_ptr<Registration> registration = Register();
  ASSERT_OK(registration->WaitRegistered(absl::Minutes(1)));
  EXPECT_FALSE(gateway->ready().ok());  // registered, but nobody answers there
  FakeBackbone backbone(&registry_, "b", [](const auto& request, auto&, auto& writer) {
    EXPECT_EQ(request.sampling().max_tokens(), 1);
    FakeBackbone::Say(writer, {70});
    FakeBackbone::Done(writer, v1::FINISH_REASON_LENGTH, 1);
    return absl::OkStatus();
  });
  EXPECT_TRUE(AwaitReady(*gateway)) << gateway->ready();
  // Probes are no clients' queries.
  EXPECT_EQ(metrics_.gateway().generated_tokens.Value(), 0);
  gateway->Drain(absl::Seconds(1));
  EXPECT_THAT(gateway->ready(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("stopping")));
}

TEST_F(GatewayTest, IsNotReadyWhereTheAnswerHoldsNoToken) {
  StartRouter();
  std::atomic<int> asked = 0;
  FakeBackbone backbone(&registry_, "b", [&asked](const auto&, auto&, auto& writer) {
    ++asked;
    FakeBackbone::Done(writer, v1::FINISH_REASON_LENGTH, 0);
    return absl::OkStatus();
  });
  ASSERT_OK_AND_ASSIGN(const auto gateway, Gateway::Create(options_, environment_));
  const std::unique_ptr<Registration> registration = Register();
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  while (asked < 2 && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(2));
  EXPECT_THAT(gateway->ready(), StatusIs(absl::StatusCode::kInternal, HasSubstr("no token")));
}

TEST_F(GatewayTest, NamesWhatItCannotStartWith) {
  StartRouter();
  GatewayOptions options = options_;
  options.model_folder = "/no/such/model";
  EXPECT_THAT(Gateway::Create(options, environment_).status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/no/such/model")));
  options = options_;
  options.max_queries = 0;
  EXPECT_THAT(Gateway::Create(options, environment_).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found 0")));
  options = options_;
  options.listen = {"nonsense"};
  EXPECT_THAT(Gateway::Create(options, environment_).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("nonsense")));
}

}  // namespace
}  // namespace ccoe::services
