#include "services/cli/bench_samples.h"

#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

TEST(BenchSamplesTest, TheMedianIsTheMiddleValue) {
  EXPECT_EQ(Median({3, 1, 2}), 2);
  EXPECT_EQ(Median({4, 1, 3, 2}), 3);
  EXPECT_EQ(Median({}), 0);
}

TEST(BenchSamplesTest, MeasuresDecodeAndPrefillOfTheBase) {
  services::OfflineOptions options;
  options.model_folder = "tests/golden/models/llama-gqa";
  options.threads = 1;
  ASSERT_OK_AND_ASSIGN(const auto offline, services::OfflineEngine::Create(options));
  ASSERT_OK_AND_ASSIGN(const auto throughput, MeasureBase(*offline, 2, 8, 4));
  EXPECT_GT(throughput.decode_tokens_per_second, 0);
  EXPECT_GT(throughput.prefill_tokens_per_second, 0);
}

}  // namespace
}  // namespace ccoe::cli
