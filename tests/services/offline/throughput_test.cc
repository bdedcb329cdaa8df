// SPDX-License-Identifier: Apache-2.0
#include "services/offline/throughput.h"

#include "gtest/gtest.h"
#include "runtime/model/families/hf_config.h"
#include "services/offline/offline_engine.h"
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

TEST(MeasureThroughputTest, ReportsRatesForALoadThatRan) {
  OfflineOptions options;
  options.model_folder = "tests/golden/models/llama-gqa";
  ASSERT_OK_AND_ASSIGN(const auto offline, OfflineEngine::Create(options));
  LoadShape load;
  load.queries = 4;
  load.new_tokens = 8;
  ASSERT_OK_AND_ASSIGN(const Throughput throughput,
                       MeasureThroughput(offline->engine(), offline->spec(), load));
  EXPECT_GT(throughput.decode_tokens_per_second, 0);
  EXPECT_GT(throughput.prefill_tokens_per_second, 0);
}

TEST(MeasureThroughputTest, PassesTheEnginesErrorOn) {
  OfflineOptions options;
  options.model_folder = "tests/golden/models/llama-gqa";
  ASSERT_OK_AND_ASSIGN(const auto offline, OfflineEngine::Create(options));
  LoadShape load;
  load.experts = {{"nobody", 1}};
  EXPECT_THAT(MeasureThroughput(offline->engine(), offline->spec(), load),
              testing::StatusIs(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace ccoe::services
