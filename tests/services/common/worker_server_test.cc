#include "services/common/worker_server.h"

#include <memory>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/services/common/fake_router.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

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
