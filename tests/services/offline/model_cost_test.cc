#include "services/offline/model_cost.h"

#include "gtest/gtest.h"
#include "runtime/model/families/hf_config.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

TEST(ModelCostTest, CountsWhatTheCheckpointHolds) {
  ASSERT_OK_AND_ASSIGN(const model::ModelSpec spec,
                       model::LoadModelSpec("tests/golden/models/llama-gqa"));
  EXPECT_EQ(ParametersTotal(spec), 437088);  // golden.json says so too
  EXPECT_EQ(ParametersTouched(spec), 437088 - spec.vocab_size * spec.hidden_size);
  EXPECT_EQ(DecodeBytes(spec, 2), 2 * ParametersTouched(spec));
}

TEST(ModelCostTest, PrefillGrowsFasterThanItsTokensBecauseOfAttention) {
  ASSERT_OK_AND_ASSIGN(const model::ModelSpec spec,
                       model::LoadModelSpec("tests/golden/models/llama-gqa"));
  const double head = 2.0 * static_cast<double>(spec.vocab_size * spec.hidden_size);
  EXPECT_GT(PrefillFlops(spec, 200) - head, 2 * (PrefillFlops(spec, 100) - head));
}

}  // namespace
}  // namespace ccoe::services
