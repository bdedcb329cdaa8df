// SPDX-License-Identifier: Apache-2.0
#include "services/offline/throughput.h"

#include <atomic>
#include <cmath>
#include <cstdint>

#include "absl/time/clock.h"
#include "absl/time/time.h"
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

// What the engine says that it did.
class Counter final : public engine::EngineObserver {
 public:
  void OnFinish(engine::FinishReason reason, const engine::Usage& usage) override {
    ++queries;
    prompt_tokens += usage.prompt_tokens;
    generated_tokens += usage.generated_tokens;
  }

  std::atomic<int64_t> queries = 0, prompt_tokens = 0, generated_tokens = 0;
};

TEST(MeasureThroughputTest, ReportsRatesForALoadThatRan) {
  Counter counter;
  OfflineOptions options;
  options.model_folder = "tests/golden/models/llama-gqa";
  options.engine.observer = &counter;
  ASSERT_OK_AND_ASSIGN(const auto offline, OfflineEngine::Create(options));
  LoadShape load;
  load.queries = 4;
  load.prompt_tokens = 9;
  load.new_tokens = 8;
  const absl::Time begin = absl::Now();
  ASSERT_OK_AND_ASSIGN(const Throughput throughput,
                       MeasureThroughput(offline->engine(), offline->spec(), load));
  const double seconds = absl::ToDoubleSeconds(absl::Now() - begin);
  EXPECT_EQ(counter.queries, 4);
  EXPECT_EQ(counter.prompt_tokens, 4 * 9);
  EXPECT_EQ(counter.generated_tokens, 4 * 8);
  // All prompts were through before the measurement was.
  EXPECT_GE(throughput.prefill_tokens_per_second, 4 * 9 / seconds);
  EXPECT_GT(throughput.decode_tokens_per_second, 0);
  EXPECT_TRUE(std::isfinite(throughput.decode_tokens_per_second));
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
