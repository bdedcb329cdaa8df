#include "services/offline/ffn_rates.h"

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "runtime/model/families/hf_config.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;

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

}  // namespace
}  // namespace ccoe::services
