// SPDX-License-Identifier: Apache-2.0
#include "services/router/cluster_state.h"

#include "ccoe/v1/placement.pb.h"
#include "services/common/status_to_grpc.h"
#include "tests/services/router/worker_reports.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::FakeClock;
using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

class ClusterStateTest : public ::testing::Test {
 protected:
  // Registers a worker; whether the table changed.
  bool Add(const v1::WorkerReport& report) {
    const int64_t before = cluster_.epoch();
    EXPECT_OK(cluster_.Register(report));
    return cluster_.epoch() != before;
  }
  static v1::WorkerReport Loaded(const std::string& id, int64_t running, int64_t kv_used) {
    v1::WorkerReport report = BackboneReport(id);
    report.mutable_load()->set_running(running);
    report.mutable_load()->set_kv_tokens_used(kv_used);
    report.mutable_load()->set_kv_tokens_total(1000);
    return report;
  }
  std::string Taken() {
    const auto workers = cluster_.TakeBackbones();
    return workers.ok() ? workers->front().worker_id() : std::string(workers.status().message());
  }

  FakeClock clock_;
  telemetry::Metrics metrics_;
  ClusterState cluster_{&clock_, {.lease = absl::Seconds(6)}, &metrics_.router()};
};

TEST_F(ClusterStateTest, SaysWhenTheExpertTableChanges) {
  EXPECT_FALSE(Add(BackboneReport("b0")));
  EXPECT_TRUE(Add(ExpertReport("e0", "math")));
  EXPECT_TRUE(Add(ExpertReport("e1", "math")));
  EXPECT_EQ(cluster_.CurrentDirective("b0", v1::WORKER_ROLE_BACKBONE).epoch(), 2);
  clock_.Advance(absl::Seconds(7));
  EXPECT_EQ(cluster_.Expire().size(), 3u);
  EXPECT_EQ(cluster_.epoch(), 3);
  const v1::Directive after = cluster_.CurrentDirective("b0", v1::WORKER_ROLE_BACKBONE);
  ASSERT_EQ(after.experts_size(), 1);
  EXPECT_EQ(after.experts(0).workers_size(), 0);
}

TEST_F(ClusterStateTest, AWorkerThatLeftHoldsNoFfnExpertsAnyMore) {
  v1::WorkerReport holder = ReportOf("e0", v1::WORKER_ROLE_EXPERT);
  holder.mutable_ffn_shard()->add_layers()->add_experts(3);
  holder.set_ffn_bytes(77);
  ASSERT_OK_AND_ASSIGN(const WorkerSession session, cluster_.Register(holder));
  EXPECT_EQ(cluster_.epoch(), 1);
  EXPECT_EQ(cluster_.CurrentDirective("b0", v1::WORKER_ROLE_BACKBONE).ffn_places_size(), 1);
  EXPECT_EQ(cluster_.Status().workers(0).ffn_bytes(), 77);
  EXPECT_EQ(cluster_.Status().workers(0).ffn_shard().layers(0).experts(0), 3);
  cluster_.Remove(session);
  EXPECT_EQ(cluster_.epoch(), 2);
  EXPECT_EQ(cluster_.CurrentDirective("b0", v1::WORKER_ROLE_BACKBONE).ffn_places_size(), 0);
}

TEST_F(ClusterStateTest, HandsItsPlacementOut) {
  EXPECT_THAT(cluster_.Plan(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("no placement")));
  placement::Plan plan;
  plan.workers.push_back({"e0", 5, {}});
  const ClusterState planned(&clock_, {}, &metrics_.router(), plan);
  ASSERT_OK_AND_ASSIGN(const v1::PlacementPlan proto, planned.Plan());
  EXPECT_EQ(proto.workers(0).memory_budget_bytes(), 5);
  EXPECT_EQ(planned.Status().placement_epoch(), 1);
}

TEST_F(ClusterStateTest, TakesTheBackboneWithTheFewestQueries) {
  Add(Loaded("b0", 3, 0));
  Add(Loaded("b1", 1, 900));
  Add(Loaded("b2", 2, 0));
  ASSERT_OK_AND_ASSIGN(const auto workers, cluster_.TakeBackbones());
  ASSERT_EQ(workers.size(), 3u);
  EXPECT_EQ(workers[0].worker_id(), "b1");
  EXPECT_EQ(workers[0].address(), "inproc:b1");
  EXPECT_EQ(workers[1].worker_id(), "b2");
}

TEST_F(ClusterStateTest, AmongEqualsTakesTheOneWithMoreFreeCache) {
  Add(Loaded("b0", 1, 500));
  Add(Loaded("b1", 1, 100));
  EXPECT_EQ(Taken(), "b1");
}

TEST_F(ClusterStateTest, SpreadsQueriesThatComeBetweenTwoReports) {
  Add(Loaded("b0", 0, 0));
  Add(Loaded("b1", 0, 0));
  EXPECT_EQ(Taken(), "b0");
  EXPECT_EQ(Taken(), "b1");
  EXPECT_EQ(Taken(), "b0");
}

TEST_F(ClusterStateTest, AWorkerThatReportsNonsenseLoadDoesNoHarm) {
  Add(Loaded("b0", INT64_MAX, INT64_MIN));
  Add(Loaded("b1", -5, 0));
  EXPECT_EQ(Taken(), "b1");
}

TEST_F(ClusterStateTest, WithoutAReadyBackboneSaysSoAndWhenToRetry) {
  v1::WorkerReport starting = BackboneReport("b0");
  starting.set_ready(false);
  Add(starting);
  const auto workers = cluster_.TakeBackbones();
  EXPECT_THAT(workers,
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("no backbone worker is ready"), HasSubstr("1 registered"))));
  EXPECT_TRUE(RetryAfter(workers.status()).has_value());
  EXPECT_THAT(cluster_.Health(), StatusIs(absl::StatusCode::kUnavailable));
  Add(BackboneReport("b0"));
  EXPECT_OK(cluster_.Health());
}

TEST_F(ClusterStateTest, TellsOperatorsWhatItKnows) {
  Add(BackboneReport("b0"));
  Add(ExpertReport("e0", "math"));
  clock_.Advance(absl::Seconds(2));
  const v1::ClusterStatus status = cluster_.Status();
  EXPECT_EQ(status.model_fingerprint(), "model-a");
  ASSERT_EQ(status.workers_size(), 2);
  EXPECT_EQ(status.workers(0).worker_id(), "b0");
  EXPECT_EQ(status.workers(0).silent_seconds(), 2.0);
  EXPECT_EQ(status.workers(1).experts(0).name(), "math");
  EXPECT_EQ(status.experts_size(), 1);
}

TEST_F(ClusterStateTest, KeepsItsMetrics) {
  Add(BackboneReport("b0"));
  Add(ExpertReport("e0", "math"));
  v1::WorkerReport old = BackboneReport("b1");
  old.set_protocol_version(0);
  EXPECT_FALSE(cluster_.Register(old).ok());
  EXPECT_THAT(metrics_.Text(),
              AllOf(HasSubstr("ccoe_router_registered_workers{role=\"backbone\"} 1"),
                    HasSubstr("ccoe_router_ready_workers{role=\"expert\"} 1"),
                    HasSubstr("ccoe_router_held_experts 1"), HasSubstr("ccoe_router_table_epoch 1"),
                    HasSubstr("ccoe_router_refused_workers_total 1")));
}

}  // namespace
}  // namespace ccoe::services
