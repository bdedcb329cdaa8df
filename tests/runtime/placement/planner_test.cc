// SPDX-License-Identifier: Apache-2.0
#include "runtime/placement/planner.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "runtime/placement/expert_demand.h"
#include "runtime/placement/plan.h"
#include "tests/runtime/placement/moe_specs.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::placement {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::vector<PlannedWorker> Workers(int count, int64_t budget = 0) {
  std::vector<PlannedWorker> workers;
  for (int i = 0; i < count; ++i) workers.push_back({absl::StrCat("expert-", i), budget});
  return workers;
}

// A few hot experts, many cold ones, another mix in every layer.
ExpertLoads SkewedLoads(const model::ModelSpec& spec, uint32_t seed) {
  std::mt19937 random(seed);
  ExpertLoads loads;
  for (int32_t layer = 0; layer < spec.layer_count(); ++layer) {
    const model::FfnSpec& ffn = spec.layers[static_cast<size_t>(layer)].ffn;
    if (!ffn.is_moe()) continue;
    for (int64_t e = 0; e < ffn.moe.experts; ++e) {
      loads.tokens[layer].push_back(1000.0 / static_cast<double>(1 + random() % 100));
    }
  }
  return loads;
}

int CopiesOf(const Plan& plan, int32_t layer, int32_t expert) {
  return static_cast<int>(std::count_if(
      plan.workers.begin(), plan.workers.end(),
      [&](const WorkerPlan& worker) { return worker.shard.Contains(layer, expert); }));
}

// Of every worker in one layer, a copy counting its part of the expert's load.
std::vector<double> LayerLoads(const Plan& plan, const model::ModelSpec& spec,
                               const ExpertLoads& loads, int32_t layer) {
  const std::vector<double> shares = loads.Shares(spec, layer);
  std::vector<double> of_worker;
  for (const WorkerPlan& worker : plan.workers) {
    double load = 0;
    for (size_t e = 0; e < shares.size(); ++e) {
      const auto expert = static_cast<int32_t>(e);
      if (worker.shard.Contains(layer, expert)) load += shares[e] / CopiesOf(plan, layer, expert);
    }
    of_worker.push_back(load);
  }
  return of_worker;
}

int64_t CountIn(const WorkerPlan& worker, int32_t layer) {
  const auto found = worker.shard.layers().find(layer);
  return found == worker.shard.layers().end() ? 0 : static_cast<int64_t>(found->second.size());
}

TEST(PlannerTest, EveryNumberOfWorkersGetsEveryExpertOnceAndEvenParts) {
  for (const int64_t experts : {5, 8, 60}) {
    const model::ModelSpec spec = MoeModel(1, 4, experts);
    for (const int workers : {1, 2, 3, 5, 7, 8, 64}) {
      PlanOptions options;
      options.workers = Workers(workers);
      ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(spec, options));
      EXPECT_OK(CheckPlan(plan, spec, options.dtype));
      int64_t least = INT64_MAX, most = 0, sum = 0;
      for (const WorkerPlan& worker : plan.workers) {
        least = std::min(least, worker.shard.size());
        most = std::max(most, worker.shard.size());
        sum += worker.shard.size();
        for (int32_t layer = 1; layer < 5; ++layer) {
          EXPECT_LE(CountIn(worker, layer), (experts + workers - 1) / workers);
          EXPECT_GE(CountIn(worker, layer), experts / workers);
        }
      }
      EXPECT_EQ(sum, 4 * experts) << "each once";
      EXPECT_LE(most - least, 1) << experts << " experts, " << workers << " workers";
    }
  }
}

TEST(PlannerTest, NeighboursStandTogetherWhereLoadsAreEven) {
  PlanOptions options;
  options.workers = Workers(2);
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(MoeModel(0, 4, 8), options));
  EXPECT_EQ(plan.workers[0].shard.ToString(), "layers 0-3: 0-3");
  EXPECT_EQ(plan.workers[1].shard.ToString(), "layers 0-3: 4-7");
}

TEST(PlannerTest, CopiesAreOnDifferentWorkersWhateverLoadsAndBudgets) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    const auto experts = static_cast<int64_t>(2 + random() % 15);
    const model::ModelSpec spec = MoeModel(static_cast<int>(random() % 2), 3, experts);
    const int count = 1 + static_cast<int>(random() % 8);
    PlanOptions options;
    options.copies = 1 + static_cast<int>(random() % static_cast<uint32_t>(count));
    options.extra_memory = static_cast<double>(random() % 3) / 4;
    if (round % 3 != 0) options.loads = SkewedLoads(spec, static_cast<uint32_t>(round));
    // Room for all copies and a little more, cut up at random.
    for (int w = 0; w < count; ++w) {
      const int64_t fair = (3 * experts * options.copies + count - 1) / count;
      const int64_t more = static_cast<int64_t>(random() % 3);
      options.workers.push_back({absl::StrCat("w", w), (fair + more) * kExpertBytes});
    }
    ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(spec, options));
    ASSERT_OK(CheckPlan(plan, spec, options.dtype));
    int64_t copies = 0;
    const model::FfnShard everything = model::FfnShard::All(spec);
    for (const auto& [layer, all] : everything.layers()) {
      for (const int32_t expert : all) {
        const int found = CopiesOf(plan, layer, expert);
        EXPECT_GE(found, options.copies);
        EXPECT_LE(found, count);
        copies += found;
      }
    }
    EXPECT_LE(copies,
              3 * experts * options.copies +
                  static_cast<int64_t>(options.extra_memory * static_cast<double>(3 * experts)));
  }
}

TEST(PlannerTest, TheSameArgumentsGiveTheSamePlan) {
  const model::ModelSpec spec = MoeModel(0, 6, 16);
  PlanOptions options;
  options.workers = Workers(5);
  options.copies = 2;
  options.extra_memory = 0.5;
  options.loads = SkewedLoads(spec, 3);
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(spec, options));
  ASSERT_OK_AND_ASSIGN(const Plan again, MakePlan(spec, options));
  EXPECT_EQ(PlanText(plan), PlanText(again));
}

TEST(PlannerTest, HotExpertsAreSpreadSoThatLoadsEvenOut) {
  const model::ModelSpec spec = MoeModel(0, 4, 64);
  PlanOptions options;
  options.workers = Workers(4);
  options.loads = SkewedLoads(spec, 11);
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(spec, options));
  for (int32_t layer = 0; layer < 4; ++layer) {
    std::vector<double> shares = options.loads.Shares(spec, layer);
    std::sort(shares.begin(), shares.end());
    // The hottest expert and the coldest that fill its worker's part: no plan does better.
    const double least = shares.back() + std::accumulate(shares.begin(), shares.begin() + 15, 0.0);
    const std::vector<double> loads = LayerLoads(plan, spec, options.loads, layer);
    EXPECT_LE(*std::max_element(loads.begin(), loads.end()), std::max(0.25, least) * 1.05);
  }
}

TEST(PlannerTest, ReplicasOfTheHottestFlattenTheLoad) {
  const model::ModelSpec spec = MoeModel(0, 2, 8);
  PlanOptions options;
  options.workers = Workers(4);
  for (int32_t layer = 0; layer < 2; ++layer) {
    options.loads.tokens[layer] = {500, 100, 100, 100, 50, 50, 50, 50};
  }
  ASSERT_OK_AND_ASSIGN(const Plan single, MakePlan(spec, options));
  options.extra_memory = 0.5;
  ASSERT_OK_AND_ASSIGN(const Plan replicated, MakePlan(spec, options));
  for (int32_t layer = 0; layer < 2; ++layer) {
    EXPECT_EQ(CopiesOf(single, layer, 0), 1);
    EXPECT_GE(CopiesOf(replicated, layer, 0), 3) << "half of all tokens go there";
    EXPECT_EQ(CopiesOf(replicated, layer, 7), 1);
    const auto before = LayerLoads(single, spec, options.loads, layer);
    const auto after = LayerLoads(replicated, spec, options.loads, layer);
    EXPECT_LT(*std::max_element(after.begin(), after.end()),
              *std::max_element(before.begin(), before.end()) - 0.1);
  }
}

TEST(PlannerTest, ASmallWorkerIsFilledAndTheOthersShareTheRest) {
  const model::ModelSpec spec = MoeModel(0, 4, 8);
  PlanOptions options;
  options.workers = {{"small", 4 * kExpertBytes}, {"a", 0}, {"b", 0}};
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(spec, options));
  EXPECT_EQ(plan.workers[0].shard.size(), 4);
  EXPECT_EQ(plan.workers[0].memory_budget_bytes, 4 * kExpertBytes);
  EXPECT_EQ(plan.workers[1].shard.size(), 14);
  EXPECT_EQ(plan.workers[2].shard.size(), 14);
  for (int32_t layer = 0; layer < 4; ++layer) EXPECT_EQ(CountIn(plan.workers[0], layer), 1);
}

TEST(PlannerTest, SpellsTheSumOutWhereBudgetsAreTooSmall) {
  const model::ModelSpec spec = MoeModel(0, 2, 8);
  PlanOptions options;
  options.workers = Workers(2, 15 * kExpertBytes);
  options.copies = 2;
  EXPECT_THAT(MakePlan(spec, options),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("2 copies of 16 x 30720 = 491520 bytes need 983040 bytes"),
                             HasSubstr("460800 + 460800 = 921600 bytes"),
                             HasSubstr("61440 bytes are missing"))));
}

TEST(PlannerTest, OnlyWholeExpertsCount) {
  const model::ModelSpec spec = MoeModel(0, 1, 2);
  PlanOptions options;
  options.workers = Workers(2, kExpertBytes - 1);
  EXPECT_THAT(MakePlan(spec, options), StatusIs(absl::StatusCode::kResourceExhausted,
                                                HasSubstr("0 + 0 = 0 bytes (whole experts of")));
}

TEST(PlannerTest, LayersOfDifferentSizesFit) {
  model::ModelSpec spec = MoeModel(0, 4, 8);
  spec.layers[2].ffn.moe.intermediate = 240;
  spec.layers[3].ffn.moe.experts = 3;
  PlanOptions options;
  options.workers = Workers(3, 20 * kExpertBytes);
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(spec, options));
  EXPECT_OK(CheckPlan(plan, spec, options.dtype));
  for (const WorkerPlan& worker : plan.workers) {
    const int64_t bytes = SizeOf(spec, worker.shard, options.dtype).bytes();
    EXPECT_NEAR(static_cast<double>(bytes), 43.0 / 3 * kExpertBytes, 3.0 * kExpertBytes);
  }
}

TEST(PlannerTest, RefusesWhatCannotBePlanned) {
  const model::ModelSpec spec = MoeModel(0, 1, 4);
  PlanOptions options;
  EXPECT_THAT(MakePlan(spec, options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at least one worker")));
  options.workers = Workers(2);
  options.copies = 3;
  EXPECT_THAT(MakePlan(spec, options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("expected 1 to 2, one a worker, found 3")));
  options.copies = 1;
  options.extra_memory = -1;
  EXPECT_THAT(MakePlan(spec, options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("extra memory")));
  options.extra_memory = 0;
  options.loads.tokens[0] = {1, 2, 3};
  EXPECT_THAT(MakePlan(spec, options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected 4 FFN experts")));
  options.loads = {};
  EXPECT_THAT(MakePlan(MoeModel(3, 0, 0), options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("this model has none")));
}

}  // namespace
}  // namespace ccoe::placement
