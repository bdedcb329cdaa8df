// SPDX-License-Identifier: Apache-2.0
#include "services/offline/kernel_rates.h"

#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "runtime/model/families/hf_config.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;

TEST(KernelRatesTest, MeasuresAttentionOverPagesOfSeveralSequences) {
  ThreadTeam team(1);
  const auto ops = kernels::MakeCpuOps(&team);
  AttentionLoad load;
  load.sequences = 3;
  load.context = 37;  // its last page is not full
  load.heads = 4;
  load.kv_heads = 2;
  load.head_dim = 16;
  load.kv = kernels::DType::kF32;
  load.calls = load.rounds = 1;
  ASSERT_OK_AND_ASSIGN(const double rate, MeasurePagedAttention(*ops, load));
  EXPECT_GT(rate, 0);
  load.context = 0;
  EXPECT_THAT(MeasurePagedAttention(*ops, load), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(KernelRatesTest, MeasuresGroupedAgainstDense) {
  ThreadTeam team(1);
  const auto ops = kernels::MakeCpuOps(&team);
  GroupedFfnLoad load;
  load.experts = 4;
  load.top_k = 2;
  load.rows = 6;
  load.hidden = 32;
  load.intermediate = 48;
  load.calls = load.rounds = 1;
  for (const kernels::DType dtype : {kernels::DType::kBF16, kernels::DType::kF16}) {
    load.weights = dtype;
    ASSERT_OK_AND_ASSIGN(const FfnRates rates, MeasureGroupedFfn(*ops, load));
    EXPECT_GT(rates.grouped, 0);
    EXPECT_GT(rates.dense, 0);
  }
  load.rows = 5;  // ten pairs cannot be dealt evenly to four experts
  EXPECT_THAT(MeasureGroupedFfn(*ops, load), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(FfnRateMeterTest, MeasuresBothOnTheExpertsOfALayer) {
  const std::string folder = "tests/golden/models/deepseek-v1-moe";
  ASSERT_OK_AND_ASSIGN(const model::ModelSpec spec, model::LoadModelSpec(folder));
  ASSERT_OK_AND_ASSIGN(const auto weights, model::Weights::Open(folder));
  ThreadTeam team(1);
  ASSERT_OK_AND_ASSIGN(const auto meter,
                       FfnRateMeter::Create(spec, 1, weights, kernels::MakeCpuOps(&team)));
  ASSERT_OK_AND_ASSIGN(const FfnRates rates, meter->Measure(/*pairs=*/30, /*rounds=*/2));
  EXPECT_GT(rates.grouped, 0);
  EXPECT_GT(rates.dense, 0);
  EXPECT_THAT(FfnRateMeter::Create(spec, 0, weights,
                                   kernels::MakeCpuOps(&team)),  // its first layer is dense
              StatusIs(absl::StatusCode::kInvalidArgument));
}

// Allocations of one measurement: those of the first round, which warms up, and before it.
int64_t AllocationsOf(int rounds) {
  testing::TaggedDevice device;
  ThreadTeam team(1);
  const std::string folder = "tests/golden/models/deepseek-v1-moe";
  const auto spec = model::LoadModelSpec(folder);
  auto mapped = model::Weights::Open(folder);
  EXPECT_OK(spec);
  EXPECT_OK(mapped);
  model::WeightTarget target;
  target.device = &device;
  const auto meter = FfnRateMeter::Create(*spec, 1, model::Weights::On(*std::move(mapped), target),
                                          testing::MakeTaggedOps(&device, &team));
  EXPECT_OK(meter);
  const int64_t before = device.allocations();
  EXPECT_OK((*meter)->Measure(/*pairs=*/30, rounds));
  return device.allocations() - before;
}

TEST(FfnRateMeterTest, AllocatesNothingWhileTimeRuns) {
  EXPECT_EQ(AllocationsOf(1), AllocationsOf(6));
}

}  // namespace
}  // namespace ccoe::services
