#include "services/router/router.h"

#include <fstream>
#include <string>

#include "absl/synchronization/notification.h"
#include "services/common/registration.h"
#include "services/common/stubs.h"
#include "tests/services/router/worker_reports.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Seconds(60);

std::string WriteRules(const std::string& text) {
  const std::string path = ::testing::TempDir() + "/router_test_rules.textproto";
  std::ofstream(path) << text;
  return path;
}

class RouterTest : public ::testing::Test {
 protected:
  RouterTest() {
    environment_.metrics = &metrics_;
    environment_.in_process = &registry_;
    options_.serve.listen.clear();
    options_.serve.in_process_name = "router";
  }
  RegistrationOptions Reporting(const v1::WorkerReport& report) {
    RegistrationOptions options;
    options.connect = [this] { return registry_.Connect("router"); };
    options.report = [report] { return report; };
    options.first_backoff = absl::Milliseconds(1);
    return options;
  }

  telemetry::Metrics metrics_;
  InProcessRegistry registry_;
  RoleEnvironment environment_;
  RouterOptions options_;
};

TEST_F(RouterTest, RoutesToWorkersThatRegistered) {
  options_.rules_file =
      WriteRules("rules { name: \"words\" expert: \"math\" keyword: \"how many\" }");
  ASSERT_OK_AND_ASSIGN(const auto router, Router::Create(options_, environment_));
  EXPECT_EQ(router->address(), "inproc:router");
  EXPECT_THAT(router->status(), StatusIs(absl::StatusCode::kUnavailable));
  absl::Notification table_known;
  RegistrationOptions reporting = Reporting(BackboneReport("b0"));
  reporting.on_directive = [&table_known](const v1::Directive& directive) {
    if (directive.experts_size() == 1 && !table_known.HasBeenNotified()) table_known.Notify();
  };
  Registration backbone(std::move(reporting));
  ASSERT_OK(backbone.WaitRegistered(kPatience));
  Registration expert(Reporting(ExpertReport("e0", "math")));
  ASSERT_OK(expert.WaitRegistered(kPatience));
  table_known.WaitForNotification();
  EXPECT_OK(router->status());

  ASSERT_OK_AND_ASSIGN(const auto channel, registry_.Connect("router"));
  v1::RouteRequest request;
  request.set_text("How many are there?");
  ASSERT_OK_AND_ASSIGN(const auto answer, MakeRoutingStub(channel)->Route(request));
  EXPECT_EQ(answer.backbone().address(), "inproc:b0");
  EXPECT_EQ(answer.decision().expert().name(), "math");
}

TEST_F(RouterTest, WorkersFindARouterThatWasRestarted) {
  ASSERT_OK_AND_ASSIGN(auto router, Router::Create(options_, environment_));
  Registration backbone(Reporting(BackboneReport("b0")));
  ASSERT_OK(backbone.WaitRegistered(kPatience));
  router.reset();
  ASSERT_OK_AND_ASSIGN(router, Router::Create(options_, environment_));
  for (int i = 0; i < 6000 && !router->status().ok(); ++i) absl::SleepFor(absl::Milliseconds(10));
  EXPECT_OK(router->status());
}

TEST_F(RouterTest, DoesNotStartWithABadRulesFile) {
  options_.rules_file = WriteRules("rules {\n  name: \"words\"\n  pattern: \"(\"\n}\n");
  EXPECT_THAT(Router::Create(options_, environment_),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("rules.textproto:3:3")));
  options_.rules_file = "/no/such/file";
  EXPECT_THAT(Router::Create(options_, environment_), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(RouterTest, RefusesALeaseOutOfRange) {
  options_.lease = absl::Milliseconds(1);
  EXPECT_THAT(Router::Create(options_, environment_),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("lease")));
}

}  // namespace
}  // namespace ccoe::services
