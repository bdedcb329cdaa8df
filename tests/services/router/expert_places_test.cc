// SPDX-License-Identifier: Apache-2.0
#include "services/router/expert_places.h"

#include <map>
#include <string>
#include <vector>

#include "services/common/model_report.h"
#include "tests/services/router/worker_reports.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1000);

using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::map<std::string, Worker> WorkersOf(const std::vector<v1::WorkerReport>& reports) {
  std::map<std::string, Worker> workers;
  for (const v1::WorkerReport& report : reports) workers[report.worker_id()].report = report;
  return workers;
}

std::vector<std::string> Addresses(const v1::ExpertPlace& place) {
  std::vector<std::string> addresses;
  for (const v1::WorkerPlace& worker : place.workers()) addresses.push_back(worker.address());
  return addresses;
}

TEST(ExpertPlacesTest, SaysWhoTheWorkersAreAndTheLeastRoomOfAny) {
  ExpertPlaces places;
  v1::WorkerReport large = ExpertReport("e0", "math"), small = ExpertReport("e1", "math");
  large.set_numerics("cpu/avx3/k1/f32");
  large.mutable_experts(0)->set_kv_tokens(4096);
  large.mutable_experts(0)->set_weights_digest("abcd");
  small.mutable_experts(0)->set_kv_tokens(1024);
  EXPECT_TRUE(places.Update(WorkersOf({large, small}), "model-a", kNow));
  const v1::Directive directive =
      places.ToDirective(absl::Seconds(6), "b0", v1::WORKER_ROLE_BACKBONE);
  EXPECT_EQ(directive.experts(0).kv_tokens(), 1024);
  EXPECT_EQ(directive.experts(0).weights_digest(), "abcd");
  EXPECT_EQ(directive.experts(0).workers(0).worker_id(), "e0");
  EXPECT_EQ(directive.experts(0).workers(0).numerics(), "cpu/avx3/k1/f32");
}

TEST(ExpertPlacesTest, ListsWhoHoldsWhat) {
  ExpertPlaces places;
  v1::WorkerReport two = ExpertReport("e1", "law");
  Hold("math", 1, &two);
  EXPECT_TRUE(places.Update(WorkersOf({BackboneReport("b0"), ExpertReport("e0", "math"), two}),
                            "model-a", kNow));
  const v1::Directive directive =
      places.ToDirective(absl::Seconds(6), "b0", v1::WORKER_ROLE_BACKBONE);
  EXPECT_EQ(directive.epoch(), 1);
  EXPECT_EQ(directive.lease_seconds(), 6.0);
  ASSERT_EQ(directive.experts_size(), 2);
  EXPECT_EQ(directive.experts(0).info().expert().name(), "law");
  EXPECT_EQ(directive.experts(1).info().expert().name(), "math");
  EXPECT_THAT(Addresses(directive.experts(1)), ElementsAre("inproc:e0", "inproc:e1"));
  EXPECT_EQ(directive.experts(1).info().replicas(), 2);
  EXPECT_EQ(directive.experts(1).base_fingerprint(), "base-6");
}

TEST(ExpertPlacesTest, TheEpochRisesWithEveryChangeAndWithNothingElse) {
  ExpertPlaces places;
  EXPECT_FALSE(places.Update({}, "", kNow));
  EXPECT_EQ(places.epoch(), 0);
  EXPECT_TRUE(places.Update(WorkersOf({ExpertReport("e0", "math")}), "", kNow));
  v1::WorkerReport busy = ExpertReport("e0", "math");
  busy.mutable_load()->set_running(9);
  EXPECT_FALSE(places.Update(WorkersOf({busy}), "", kNow));
  EXPECT_EQ(places.epoch(), 1);
  EXPECT_TRUE(places.Update({}, "", kNow));
  EXPECT_EQ(places.epoch(), 2);
}

TEST(ExpertPlacesTest, LeavesOutWorkersThatDrainOrServeAnotherModel) {
  ExpertPlaces places;
  v1::WorkerReport draining = ExpertReport("e0", "math");
  draining.set_ready(false);
  v1::WorkerReport foreign = ExpertReport("e1", "law");
  foreign.set_model_fingerprint("model-b");
  EXPECT_FALSE(places.Update(WorkersOf({draining, foreign}), "model-a", kNow));
}

TEST(ExpertPlacesTest, LeavesOutACopyWithAnotherBaseOrOtherLayers) {
  ExpertPlaces places;
  v1::WorkerReport other_base = ExpertReport("e1", "math");
  other_base.mutable_experts(0)->set_base_fingerprint("base-7");
  v1::WorkerReport other_layers = ExpertReport("e2", "math");
  other_layers.mutable_experts(0)->mutable_info()->set_first_layer(5);
  EXPECT_TRUE(places.Update(WorkersOf({ExpertReport("e0", "math"), other_base, other_layers}),
                            "model-a", kNow));
  EXPECT_THAT(
      Addresses(places.ToDirective(absl::Seconds(1), "b0", v1::WORKER_ROLE_BACKBONE).experts(0)),
      ElementsAre("inproc:e0"));
}

TEST(ExpertPlacesTest, ResolvesToTheNewestVersionOrTheNamedOne) {
  ExpertPlaces places;
  places.Update(WorkersOf({ExpertReport("e0", "math", 2), ExpertReport("e1", "math", 10),
                           ExpertReport("e2", "mathx", 11)}),
                "", kNow);
  ASSERT_OK_AND_ASSIGN(const ExpertRef newest, places.Resolve({"math", 0}));
  EXPECT_EQ(newest, (ExpertRef{"math", 10}));
  ASSERT_OK_AND_ASSIGN(const ExpertRef named, places.Resolve({"math", 2}));
  EXPECT_EQ(named, (ExpertRef{"math", 2}));
  EXPECT_THAT(places.Resolve({"math", 3}), StatusIs(absl::StatusCode::kNotFound));
}

TEST(ExpertPlacesTest, SaysWhatThereIsWhereAnExpertIsMissing) {
  ExpertPlaces places;
  EXPECT_THAT(places.Resolve({"tax", 0}),
              StatusIs(absl::StatusCode::kNotFound, AllOf(HasSubstr("tax"), HasSubstr("none"))));
  places.Update(WorkersOf({ExpertReport("e0", "math", 2), ExpertReport("e1", "law")}), "", kNow);
  EXPECT_THAT(places.Resolve({"tax", 0}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("law@1, math@2")));
}

TEST(ExpertPlacesTest, AnExpertWhoseLastWorkerHasGoneIsKnownForAWhile) {
  ExpertPlaces places;
  places.Update(WorkersOf({ExpertReport("e0", "math", 2), ExpertReport("e1", "law")}), "", kNow);
  places.Update(WorkersOf({ExpertReport("e1", "law")}), "", kNow);
  EXPECT_THAT(places.Resolve({"math", 0}), StatusIs(absl::StatusCode::kNotFound));
  ASSERT_OK_AND_ASSIGN(const ExpertRef newest, places.ResolveKnown({"math", 0}));
  EXPECT_EQ(newest, (ExpertRef{"math", 2}));
  EXPECT_EQ(places.Experts().size(), 1u);
  const auto directive = places.ToDirective(absl::Seconds(1), "b0", v1::WORKER_ROLE_BACKBONE);
  ASSERT_EQ(directive.experts_size(), 2);
  EXPECT_EQ(directive.experts(1).info().expert().name(), "math");
  EXPECT_EQ(directive.experts(1).base_fingerprint(), "base-6");
  EXPECT_EQ(directive.experts(1).workers_size(), 0);

  EXPECT_FALSE(places.Update(WorkersOf({ExpertReport("e1", "law")}), "",
                             kNow + ExpertPlaces::kRemembered / 2));
  EXPECT_TRUE(
      places.Update(WorkersOf({ExpertReport("e1", "law")}), "", kNow + ExpertPlaces::kRemembered));
  EXPECT_THAT(places.ResolveKnown({"math", 2}), StatusIs(absl::StatusCode::kNotFound));
  // Of another model nothing is known.
  places.Update(WorkersOf({}), "model-a", kNow);
  EXPECT_OK(places.ResolveKnown({"law", 1}));
  places.Update(WorkersOf({}), "model-b", kNow);
  EXPECT_THAT(places.ResolveKnown({"law", 1}), StatusIs(absl::StatusCode::kNotFound));
  places.Update(WorkersOf({ExpertReport("e1", "law")}), "", kNow);
  // Held again it is not gone.
  places.Update(WorkersOf({}), "", kNow);
  places.Update(WorkersOf({ExpertReport("e1", "law")}), "", kNow);
  EXPECT_EQ(places.ToDirective(absl::Seconds(1), "b0", v1::WORKER_ROLE_BACKBONE).experts_size(), 1);
}

TEST(ExpertPlacesTest, ListsExpertsForClients) {
  ExpertPlaces places;
  places.Update(WorkersOf({ExpertReport("e0", "math"), ExpertReport("e1", "math")}), "", kNow);
  const std::vector<v1::ExpertInfo> experts = places.Experts();
  ASSERT_EQ(experts.size(), 1u);
  EXPECT_EQ(experts[0].replicas(), 2);
}

placement::Plan TwoWorkers() {
  placement::Plan plan;
  plan.workers = {{"e0", 0, {}}, {"e1", 0, {}}};
  for (int32_t layer = 0; layer < 2; ++layer) {
    for (int32_t expert = 0; expert < 4; ++expert) {
      plan.workers[static_cast<size_t>(expert % 2)].shard.Add(layer, expert);
    }
  }
  return plan;
}

TEST(ExpertPlacesTest, TellsEachExpertWorkerWhatToHold) {
  ExpertPlaces places(TwoWorkers());
  EXPECT_EQ(places.plan_epoch(), 1);
  const v1::Directive mine = places.ToDirective(absl::Seconds(1), "e1", v1::WORKER_ROLE_EXPERT);
  EXPECT_EQ(mine.placement_epoch(), 1);
  ASSERT_TRUE(mine.has_ffn_assignment());
  EXPECT_EQ(mine.ffn_assignment().layers_size(), 2);
  EXPECT_THAT(mine.ffn_assignment().layers(0).experts(), ElementsAre(1, 3));
  EXPECT_FALSE(places.ToDirective(absl::Seconds(1), "stranger", v1::WORKER_ROLE_EXPERT)
                   .has_ffn_assignment());
  EXPECT_FALSE(
      places.ToDirective(absl::Seconds(1), "b0", v1::WORKER_ROLE_BACKBONE).has_ffn_assignment());
  EXPECT_EQ(
      ExpertPlaces().ToDirective(absl::Seconds(1), "e1", v1::WORKER_ROLE_EXPERT).placement_epoch(),
      0);
}

TEST(ExpertPlacesTest, TellsBackboneWorkersWhoHoldsWhichFfnExperts) {
  ExpertPlaces places(TwoWorkers());
  v1::WorkerReport holder = ReportOf("e1", v1::WORKER_ROLE_EXPERT);
  *holder.mutable_ffn_shard() = FfnShardToProto(TwoWorkers().workers[1].shard);
  const v1::WorkerReport empty = ReportOf("e0", v1::WORKER_ROLE_EXPERT);
  EXPECT_TRUE(places.Update(WorkersOf({holder, empty}), "model-a", kNow));
  EXPECT_EQ(places.epoch(), 1);
  const v1::Directive directive =
      places.ToDirective(absl::Seconds(1), "b0", v1::WORKER_ROLE_BACKBONE);
  ASSERT_EQ(directive.ffn_places_size(), 1);
  EXPECT_EQ(directive.ffn_places(0).worker_id(), "e1");
  EXPECT_EQ(directive.ffn_places(0).address(), "inproc:e1");
  EXPECT_EQ(directive.ffn_places(0).shard().layers_size(), 2);
  EXPECT_EQ(places.ToDirective(absl::Seconds(1), "e0", v1::WORKER_ROLE_EXPERT).ffn_places_size(),
            0);
  // Another report of the same changes nothing; one of a worker that drains, or is gone, does.
  EXPECT_FALSE(places.Update(WorkersOf({holder, empty}), "model-a", kNow));
  holder.set_ready(false);
  EXPECT_TRUE(places.Update(WorkersOf({holder, empty}), "model-a", kNow));
  EXPECT_EQ(places.ToDirective(absl::Seconds(1), "b0", v1::WORKER_ROLE_BACKBONE).ffn_places_size(),
            0);
}

}  // namespace
}  // namespace ccoe::services
