#include "services/backbone/worker.h"

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "services/common/compute.h"
#include "services/common/status_to_grpc.h"
#include "services/router/router.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"

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
