// SPDX-License-Identifier: Apache-2.0
#include "runtime/placement/cost_model.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/placement/moe_specs.h"

namespace ccoe::placement {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// An expert of 1 ms, rows nearly free, a quick link.
constexpr Costs kCosts = {1e-3, 1.127e-3, 1e-4, 1e9};

TEST(CostModelTest, SlowExpertsOnManyMachinesBelongOnWorkers) {
  const CostAnswer answer = CompareCosts(MoeModel(0, 4, 8), kCosts, {.workers = 4, .rows = 32});
  EXPECT_FALSE(answer.with_backbone);
  // All eight are chosen, 8 rows each.
  EXPECT_NEAR(answer.here_seconds, 8 * (1e-3 + 7e-6), 1e-5);
  EXPECT_NEAR(answer.workers_seconds, 2 * (1e-3 + 7e-6) + 1e-4, 1e-4);
  EXPECT_THAT(answer.reason, AllOf(HasSubstr("on workers: a layer of a step of 32 rows takes"),
                                   HasSubstr("on 4 workers"), HasSubstr("0.1 ms round trip")));
}

TEST(CostModelTest, ALinkSlowerThanTheExpertsKeepsThemHere) {
  Costs costs = kCosts;
  costs.round_trip_seconds = 0.1;
  EXPECT_TRUE(CompareCosts(MoeModel(0, 4, 8), costs, {.workers = 4}).with_backbone);
  costs = kCosts;
  costs.bytes_per_second = 1e5;
  EXPECT_TRUE(CompareCosts(MoeModel(0, 4, 8), costs, {.workers = 4}).with_backbone);
}

TEST(CostModelTest, WorkersOnTheSameMachineComputeNothingFaster) {
  const CostAnswer answer =
      CompareCosts(MoeModel(0, 4, 8), kCosts, {.workers = 4, .shared_machine = true});
  EXPECT_TRUE(answer.with_backbone);
  EXPECT_THAT(answer.reason, AllOf(HasSubstr("with the backbone: "), HasSubstr("share its cores")));
}

TEST(CostModelTest, OneRowTouchesItsOwnExpertsOnly) {
  const CostAnswer answer = CompareCosts(MoeModel(0, 1, 64), kCosts, {.workers = 64, .rows = 1});
  EXPECT_NEAR(answer.here_seconds, 2e-3, 1e-6) << "top 2";
  EXPECT_NEAR(answer.workers_seconds, 1e-3 + 1e-4, 1e-5) << "two at once";
}

TEST(CostModelTest, ABf16WireHalvesTheBytes) {
  Costs costs = {0, 0, 0, 1e6};
  const model::ModelSpec spec = MoeModel(0, 1, 8);
  const double f32 = CompareCosts(spec, costs, {.workers = 2}).workers_seconds;
  const double bf16 = CompareCosts(spec, costs, {.workers = 2, .wire_dtype = kernels::DType::kBF16})
                          .workers_seconds;
  EXPECT_NEAR(f32, 2 * bf16, 1e-9);
}

TEST(CostModelTest, WhatDoesNotFitBelongsOnWorkers) {
  const CostAnswer answer = CompareCosts(MoeModel(0, 4, 8), kCosts,
                                         {.workers = 4,
                                          .shared_machine = true,
                                          .expert_bytes = 9'000'000'000,
                                          .memory_bytes = 8'000'000'000});
  EXPECT_FALSE(answer.with_backbone);
  EXPECT_THAT(answer.reason, HasSubstr("the experts take 9 GB, the backbone's machine has 8 GB"));
}

}  // namespace
}  // namespace ccoe::placement
