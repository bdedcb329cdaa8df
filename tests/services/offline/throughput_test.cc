#include "services/offline/throughput.h"

#include "gtest/gtest.h"
#include "services/offline/offline_engine.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

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
