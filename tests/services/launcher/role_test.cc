// SPDX-License-Identifier: Apache-2.0
#include "services/launcher/role.h"

#include <signal.h>
#include <unistd.h>

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/telemetry/metrics.h"
#include "services/common/channel_factory.h"
#include "services/common/server_runner.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(StartRoleTest, MakesTheRoleThatTheOptionsAreOf) {
  InProcessRegistry registry;
  const ChannelFactory channels(&registry);
  telemetry::Metrics metrics;
  RoleEnvironment environment;
  environment.channels = &channels;
  environment.metrics = &metrics;
  environment.in_process = &registry;
  RouterRole router;
  router.router.serve.listen.clear();
  router.router.serve.in_process_name = "router";
  ASSERT_OK_AND_ASSIGN(const auto role, StartRole(router, environment));
  EXPECT_EQ(role->address(), "inproc:router");
  EXPECT_THAT(role->status(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("backbone worker")));
  GatewayRole gateway;
  gateway.gateway.model_folder = testing::GoldenFolder("ccoe/backbone");
  gateway.gateway.router = role->address();
  gateway.gateway.listen = {"127.0.0.1:0"};
  ASSERT_OK_AND_ASSIGN(const auto other, StartRole(gateway, environment));
  EXPECT_THAT(other->address(), HasSubstr("127.0.0.1:"));
  EXPECT_FALSE(other->status().ok());
  other->Drain(absl::ZeroDuration());
  role->Drain(absl::ZeroDuration());
  EXPECT_FALSE(registry.Connect("router").ok());
}

// Where a server of this test listens.
class ServeRoleTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(server_, ServerRunner::Start(ServerOptions()));
    taken_ = server_->addresses().front();
  }

  std::unique_ptr<ServerRunner> server_;
  std::string taken_;
};

TEST_F(ServeRoleTest, AnAddressInUseIsNoticedBeforeAModelIsLoaded) {
  const auto refused = [this](const RoleOptions& role, const char* what) {
    EXPECT_THAT(ServeRole(role, {}), StatusIs(absl::StatusCode::kUnavailable,
                                              AllOf(HasSubstr(taken_), HasSubstr(what),
                                                    HasSubstr("in use by another process"))));
  };
  BackboneRole backbone;
  backbone.worker.model_folder = "/no/such/model";
  backbone.worker.serve.listen = {taken_};
  refused(backbone, "gRPC");
  ExpertRole expert;
  expert.worker.base_folder = "/no/such/model";
  expert.process.http = taken_;
  refused(expert, "metrics and health");
  GatewayRole gateway;
  gateway.gateway.model_folder = "/no/such/model";
  gateway.gateway.listen = {taken_};
  gateway.process.http = "127.0.0.1:0";
  refused(gateway, "gRPC");
}

TEST_F(ServeRoleTest, ServesUntilASignalComes) {
  RouterRole router;
  router.router.serve.listen = {"127.0.0.1:0"};
  router.process.http = "127.0.0.1:0";
  std::string served;
  ProcessEvents events;
  events.on_serving = [&served](const std::string& address, const std::string& http_address) {
    served = address + " " + http_address;
    kill(getpid(), SIGTERM);
  };
  EXPECT_OK(ServeRole(router, events));
  EXPECT_THAT(served, HasSubstr("127.0.0.1:"));
}

}  // namespace
}  // namespace ccoe::services
