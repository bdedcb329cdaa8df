// SPDX-License-Identifier: Apache-2.0
#include "services/common/worker_server.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/serving_thread.h"
#include "services/common/model_report.h"
#include "services/common/server_runner.h"
#include "tests/services/common/fake_router.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
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

TEST(DeviceReportTest, MemoryThatIsNotPlannedIsNotReported) {
  testing::TaggedDevice device;
  v1::WorkerLoad load;
  ReportDevice(device, 0, &load);
  EXPECT_EQ(load.device(), "");
}

TEST(DeviceReportTest, SaysWhatIsPlannedAndFreeAndWhetherThePlanHeld) {
  testing::TaggedDevice device(/*capacity_bytes=*/1000);
  v1::WorkerLoad load;
  ReportDevice(device, 700, &load);
  EXPECT_EQ(load.device(), "tagged:0");
  EXPECT_EQ(load.device_planned_bytes(), 700);
  EXPECT_EQ(load.device_free_bytes(), 1000);
  EXPECT_EQ(load.device_serving_allocations(), 0);
  {
    kernels::ServingThread serving;
    kernels::NoteAllocation();
  }
  ReportDevice(device, 700, &load);
  EXPECT_EQ(load.device_serving_allocations(), 1);
}

class WorkerServerTest : public ::testing::Test {
 protected:
  WorkerServerTest() : channels_(&registry_) {
    ServerOptions options;
    options.listen.clear();
    options.services = {{&router_, v1::Control::service_full_name()}};
    options.in_process_name = "router";
    options.registry = &registry_;
    auto server = ServerRunner::Start(std::move(options));
    EXPECT_OK(server);
    if (server.ok()) server_ = *std::move(server);
  }

  absl::StatusOr<std::unique_ptr<WorkerServer>> Start() {
    WorkerServerOptions options;
    options.identity.worker_id = "expert-7";
    options.identity.role = v1::WORKER_ROLE_EXPERT;
    options.identity.model_fingerprint = "model-a";
    options.identity.weights.set_source("aaaa");
    options.identity.numerics = "cpu/avx3/k1/f32";
    options.router = "inproc:router";
    options.serve.listen.clear();
    options.serve.in_process_name = "expert-7";
    options.serve.register_timeout = absl::Seconds(30);
    options.fill_report = [](v1::WorkerReport& report) { report.set_ffn_bytes(5); };
    options.health = [this] {
      absl::MutexLock lock(&mutex_);
      return health_;
    };
    RoleEnvironment environment;
    environment.channels = &channels_;
    environment.in_process = &registry_;
    return WorkerServer::Start(std::move(options), environment);
  }
  void SetHealth(absl::Status health) {
    absl::MutexLock lock(&mutex_);
    health_ = std::move(health);
  }
  // The report that comes next after `known`.
  v1::WorkerReport Next(size_t known) {
    EXPECT_TRUE(router_.AwaitReports(known + 1));
    return router_.report(known);
  }

  absl::Mutex mutex_;
  absl::Status health_;
  InProcessRegistry registry_;
  ChannelFactory channels_;
  FakeRouter router_;
  std::unique_ptr<ServerRunner> server_;
};

TEST_F(WorkerServerTest, ReportsWhoItIsAndWhatItsWorkerAdds) {
  ASSERT_OK_AND_ASSIGN(const auto worker, Start());
  ASSERT_OK(worker->Register());
  EXPECT_OK(worker->status());
  EXPECT_EQ(worker->address(), "inproc:expert-7");
  const v1::WorkerReport report = Next(0);
  EXPECT_EQ(report.worker_id(), "expert-7");
  EXPECT_EQ(report.role(), v1::WORKER_ROLE_EXPERT);
  EXPECT_EQ(report.address(), "inproc:expert-7");
  EXPECT_EQ(report.weights().source(), "aaaa");
  EXPECT_EQ(report.numerics(), "cpu/avx3/k1/f32");
  EXPECT_EQ(report.ffn_bytes(), 5);
  EXPECT_TRUE(report.ready());
  EXPECT_EQ(report.failure(), "");
}

TEST_F(WorkerServerTest, AWorkerThatFailedSaysSoAndIsNotReady) {
  ASSERT_OK_AND_ASSIGN(const auto worker, Start());
  ASSERT_OK(worker->Register());
  SetHealth(absl::UnavailableError("the device failed: it fell off the bus"));
  const size_t known = router_.reports();
  worker->ReportNow();
  const v1::WorkerReport report = Next(known);
  EXPECT_FALSE(report.ready());
  EXPECT_THAT(report.failure(), HasSubstr("fell off the bus"));
  EXPECT_THAT(worker->status(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("bus")));
}

TEST_F(WorkerServerTest, RegisteringWaitsForTheRouterAndNamesIt) {
  router_.Refuse();
  ASSERT_OK_AND_ASSIGN(const auto worker, Start());
  EXPECT_THAT(worker->Register(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                           AllOf(HasSubstr("expert-7"), HasSubstr("inproc:router"),
                                                 HasSubstr("protocol version"))));
}

TEST_F(WorkerServerTest, ADrainTellsTheRouterFirstThenWaitsThenLeaves) {
  ASSERT_OK_AND_ASSIGN(const auto worker, Start());
  ASSERT_OK(worker->Register());
  const size_t known = router_.reports();
  bool waited = false;
  worker->Drain(
      absl::InfiniteFuture(),
      [&](absl::Time) {
        EXPECT_FALSE(Next(known).ready());
        waited = true;
        return true;
      },
      absl::ZeroDuration());
  EXPECT_TRUE(waited);
  EXPECT_TRUE(router_.AwaitEnded(1));
}

}  // namespace
}  // namespace ccoe::services
