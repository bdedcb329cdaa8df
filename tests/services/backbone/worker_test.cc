// SPDX-License-Identifier: Apache-2.0
#include "services/backbone/worker.h"

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "ccoe/v1/control.grpc.pb.h"
#include "ccoe/v1/inference.grpc.pb.h"
#include "ccoe/v1/routing.grpc.pb.h"
#include "gtest/gtest.h"
#include "services/common/compute.h"
#include "services/common/status_to_grpc.h"
#include "services/gateway/gateway.h"
#include "services/router/router.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

class BackboneWorkerTest : public ::testing::Test {
 protected:
  BackboneWorkerTest() {
    environment_.compute = &compute_;
    environment_.channels = &channels_;
    environment_.metrics = &metrics_;
    environment_.in_process = &registry_;
    options_.model_folder = testing::GoldenFolder("ccoe/backbone");
    options_.router = "inproc:router";
    options_.serve.listen.clear();
    options_.serve.in_process_name = "backbone-0";
  }

  void StartRouter() {
    RouterOptions options;
    options.serve.listen.clear();
    options.serve.in_process_name = "router";
    ASSERT_OK_AND_ASSIGN(router_, Router::Create(options, environment_));
  }

  ThreadTeam team_{1};
  const Compute compute_{&team_};
  InProcessRegistry registry_;
  const ChannelFactory channels_{&registry_};
  telemetry::Metrics metrics_;
  RoleEnvironment environment_;
  BackboneWorkerOptions options_;
  std::unique_ptr<Router> router_;
};

TEST_F(BackboneWorkerTest, RegistersAndGeneratesWithTheBase) {
  StartRouter();
  ASSERT_OK_AND_ASSIGN(const auto worker, BackboneWorker::Create(options_, environment_));
  EXPECT_EQ(worker->address(), "inproc:backbone-0");
  EXPECT_OK(worker->status());
  EXPECT_OK(router_->status());
  const auto golden = testing::ReadGoldenPrompts("ccoe/backbone")[0];
  ASSERT_OK_AND_ASSIGN(auto channel, registry_.Connect("backbone-0"));
  v1::BackboneGenerateRequest request;
  request.mutable_prompt()->Add(golden.ids.begin(), golden.ids.end());
  request.mutable_sampling()->set_temperature(0);
  request.mutable_sampling()->set_max_tokens(32);
  request.mutable_sampling()->set_ignore_eos(true);
  grpc::ClientContext context;
  auto reader = v1::Backbone::NewStub(channel)->Generate(&context, request);
  std::vector<int32_t> ids;
  v1::BackboneGenerateResponse response;
  while (reader->Read(&response)) {
    for (const v1::Token& token : response.tokens().tokens()) ids.push_back(token.id());
  }
  ASSERT_OK(FromGrpc(reader->Finish()));
  EXPECT_EQ(ids, golden.greedy_ids);
  worker->Drain(absl::Seconds(10));
  EXPECT_FALSE(registry_.Connect("backbone-0").ok());
}

TEST_F(BackboneWorkerTest, AWorkerWhoseDeviceFailedIsLeftAndItsQueriesMove) {
  StartRouter();
  testing::TaggedDevice device;
  const Compute failing(&device, [&] { return testing::MakeTaggedOps(&device, &team_); });
  RoleEnvironment with_device = environment_;
  with_device.compute = &failing;
  ASSERT_OK_AND_ASSIGN(const auto first, BackboneWorker::Create(options_, with_device));
  options_.worker_id = options_.serve.in_process_name = "backbone-1";
  ASSERT_OK_AND_ASSIGN(const auto second, BackboneWorker::Create(options_, environment_));
  GatewayOptions gateway_options;
  gateway_options.model_folder = options_.model_folder;
  gateway_options.router = options_.router;
  gateway_options.listen = {"127.0.0.1:0"};
  ASSERT_OK_AND_ASSIGN(const auto gateway, Gateway::Create(gateway_options, environment_));
  const auto channel =
      grpc::CreateChannel(gateway->addresses()[0], grpc::InsecureChannelCredentials());
  const auto inference = v1::Inference::NewStub(channel);
  const auto golden = testing::ReadGoldenPrompts("ccoe/backbone")[0];
  // Its tokens; fewer than the golden ones where it ended with `status`.
  const auto ask = [&](absl::Status& status) {
    v1::GenerateRequest request;
    request.mutable_token_ids()->mutable_ids()->Add(golden.ids.begin(), golden.ids.end());
    request.set_expert("base");
    request.mutable_sampling()->set_temperature(0);
    request.mutable_sampling()->set_max_tokens(32);
    request.mutable_sampling()->set_ignore_eos(true);
    grpc::ClientContext context;
    auto reader = inference->Generate(&context, request);
    std::vector<int32_t> ids;
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
      for (const v1::Token& token : response.delta().tokens()) ids.push_back(token.id());
    }
    status = FromGrpc(reader->Finish());
    return ids;
  };

  std::atomic<int> asked = 0, moved_or_there = 0;
  std::vector<std::thread> clients;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([&] {
      for (int j = 0; j < 8; ++j) {
        if (++asked == 16) device.FailFromNowOn(absl::InternalError("it fell off the bus"));
        absl::Status status;
        const std::vector<int32_t> ids = ask(status);
        if (status.ok()) {
          EXPECT_EQ(ids, golden.greedy_ids);
          ++moved_or_there;
          continue;
        }
        // Only one that had tokens from there may end, and says why.
        EXPECT_FALSE(ids.empty());
        EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("off the bus")));
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_GE(moved_or_there, 64 - 8);

  // It says so, and gets no more.
  ASSERT_OK_AND_ASSIGN(auto to_router, registry_.Connect("router"));
  const auto control = v1::Control::NewStub(to_router);
  v1::WorkerStatus of_first;
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  while (of_first.failure().empty() && absl::Now() < deadline) {
    grpc::ClientContext context;
    v1::ClusterStatus status;
    ASSERT_TRUE(control->GetStatus(&context, {}, &status).ok());
    for (const v1::WorkerStatus& worker : status.workers()) {
      if (worker.worker_id() == "backbone-0") of_first = worker;
    }
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_FALSE(of_first.ready());
  EXPECT_THAT(of_first.failure(), HasSubstr("off the bus"));
  const auto routing = v1::Routing::NewStub(to_router);
  for (int i = 0; i < 4; ++i) {
    grpc::ClientContext context;
    v1::RouteRequest request;
    request.set_expert("base");
    v1::RouteResponse response;
    ASSERT_TRUE(routing->Route(&context, request, &response).ok());
    EXPECT_EQ(response.backbone().worker_id(), "backbone-1");
    EXPECT_EQ(response.alternatives_size(), 0);
  }
}

TEST_F(BackboneWorkerTest, AnUnknownExpertIsNamed) {
  StartRouter();
  ASSERT_OK_AND_ASSIGN(const auto worker, BackboneWorker::Create(options_, environment_));
  ASSERT_OK_AND_ASSIGN(auto channel, registry_.Connect("backbone-0"));
  v1::BackboneGenerateRequest request;
  request.add_prompt(1);
  request.mutable_expert()->set_name("poetry");
  grpc::ClientContext context;
  auto reader = v1::Backbone::NewStub(channel)->Generate(&context, request);
  v1::BackboneGenerateResponse response;
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_THAT(FromGrpc(reader->Finish()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("poetry")));
}

TEST_F(BackboneWorkerTest, SaysThatThereIsNoRouter) {
  options_.serve.register_timeout = absl::Milliseconds(50);
  EXPECT_THAT(BackboneWorker::Create(options_, environment_).status(),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("inproc:router")));
}

TEST_F(BackboneWorkerTest, NamesAMissingModel) {
  options_.model_folder = "/no/such/model";
  EXPECT_THAT(BackboneWorker::Create(options_, environment_).status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/no/such/model")));
}

}  // namespace
}  // namespace ccoe::services
