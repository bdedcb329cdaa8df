#include "services/common/registration.h"

#include <vector>

#include "absl/synchronization/notification.h"
#include "services/common/protocol_version.h"
#include "services/common/server_runner.h"
#include "tests/services/common/fake_router.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Seconds(60);

class RegistrationTest : public ::testing::Test {
 protected:
  std::unique_ptr<ServerRunner> StartServer(FakeRouter* router) {
    ServerOptions options;
    options.listen.clear();
    options.services = {{router, v1::Control::service_full_name()}};
    options.in_process_name = "router";
    options.registry = &registry_;
    auto server = ServerRunner::Start(std::move(options));
    return server.ok() ? *std::move(server) : nullptr;
  }

  RegistrationOptions Worker() {
    RegistrationOptions options;
    options.connect = [this] { return registry_.Connect("router"); };
    options.report = [] {
      v1::WorkerReport report;
      report.set_worker_id("b0");
      return report;
    };
    options.first_backoff = absl::Milliseconds(1);
    options.max_backoff = absl::Milliseconds(10);
    options.report_interval = absl::Hours(1);
    return options;
  }

  InProcessRegistry registry_;
};

TEST_F(RegistrationTest, ReportsAndHandsDirectivesOn) {
  FakeRouter router;
  const auto server = StartServer(&router);
  absl::Notification heard;
  RegistrationOptions options = Worker();
  options.on_directive = [&heard](const v1::Directive& directive) {
    EXPECT_EQ(directive.epoch(), 1);
    heard.Notify();
  };
  Registration registration(std::move(options));
  ASSERT_OK(registration.WaitRegistered(kPatience));
  EXPECT_OK(registration.status());
  heard.WaitForNotification();
  EXPECT_EQ(router.report(0).worker_id(), "b0");
  EXPECT_EQ(router.report(0).protocol_version(), kProtocolVersion);
}

TEST_F(RegistrationTest, ReportsOnDemandBetweenItsTurns) {
  FakeRouter router;
  const auto server = StartServer(&router);
  Registration registration(Worker());
  ASSERT_OK(registration.WaitRegistered(kPatience));
  registration.ReportNow();
  EXPECT_TRUE(router.AwaitReports(2));
}

TEST_F(RegistrationTest, ReportsEveryThirdOfTheLease) {
  FakeRouter router;
  router.SetLease(0.03);
  const auto server = StartServer(&router);
  RegistrationOptions options = Worker();
  options.report_interval = absl::Milliseconds(10);
  Registration registration(std::move(options));
  EXPECT_TRUE(router.AwaitReports(4));
}

TEST_F(RegistrationTest, EndsItsStreamWhenDestroyed) {
  FakeRouter router;
  const auto server = StartServer(&router);
  {
    Registration registration(Worker());
    ASSERT_OK(registration.WaitRegistered(kPatience));
  }
  EXPECT_TRUE(router.AwaitEnded(1));
}

TEST_F(RegistrationTest, FindsARouterThatComesLateAndOneThatComesBack) {
  Registration registration(Worker());
  EXPECT_THAT(registration.WaitRegistered(absl::Milliseconds(1)),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
  FakeRouter first;
  auto server = StartServer(&first);
  ASSERT_OK(registration.WaitRegistered(kPatience));
  server.reset();
  FakeRouter second;
  server = StartServer(&second);
  EXPECT_TRUE(second.AwaitReports(1));
}

TEST_F(RegistrationTest, SaysAtOnceThatAndWhyItWasRefused) {
  FakeRouter router;
  router.Refuse();
  const auto server = StartServer(&router);
  Registration registration(Worker());
  EXPECT_THAT(registration.WaitRegistered(kPatience),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("expected 2, found 1")));
}

TEST_F(RegistrationTest, StopsAtOnceWhileTheRouterIsAway) {
  RegistrationOptions options = Worker();
  options.first_backoff = absl::Hours(1);
  options.max_backoff = absl::Hours(1);
  Registration registration(std::move(options));
  EXPECT_THAT(registration.WaitRegistered(absl::Milliseconds(1)),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
}

TEST_F(RegistrationTest, ReportsAgainAfterADirectiveWhereThatIsWanted) {
  FakeRouter router;
  const auto server = StartServer(&router);
  ASSERT_NE(server, nullptr);
  RegistrationOptions options = Worker();
  options.report_after_directive = true;
  Registration registration(std::move(options));
  EXPECT_TRUE(router.AwaitReports(3)) << "the next one by the clock is an hour away";
}

}  // namespace
}  // namespace ccoe::services
