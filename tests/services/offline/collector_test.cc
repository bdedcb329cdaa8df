// SPDX-License-Identifier: Apache-2.0
#include "services/offline/collector.h"

#include <memory>

#include "gtest/gtest.h"
#include "services/offline/offline_engine.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

engine::EngineRequest Query(int32_t first, int64_t max_tokens) {
  engine::EngineRequest query;
  query.prompt = {first, 2, 3};
  query.sampling.temperature = 0;
  query.sampling.ignore_eos = true;
  query.sampling.max_tokens = max_tokens;
  return query;
}

TEST(RunQueriesTest, KeepsTheOrderAndReportsErrorsInTheirPlace) {
  OfflineOptions options;
  options.model_folder = "tests/golden/models/llama-gqa";
  options.engine.max_waiting = 2;  // far fewer than the queries: the collector has to wait
  options.engine.max_running = 2;
  ASSERT_OK_AND_ASSIGN(const auto offline, OfflineEngine::Create(options));
  std::vector<engine::EngineRequest> queries;
  for (int i = 0; i < 20; ++i) queries.push_back(Query(i, 1 + i % 5));
  queries[7].prompt = {1 << 30};
  size_t reported = 0;
  const auto answers =
      RunQueries(offline->engine(), queries, 16, [&reported](size_t done) { reported = done; });
  ASSERT_EQ(answers.size(), queries.size());
  for (size_t i = 0; i < answers.size(); ++i) {
    if (i == 7) {
      EXPECT_THAT(answers[i].status, testing::StatusIs(absl::StatusCode::kInvalidArgument));
      continue;
    }
    EXPECT_OK(answers[i].status);
    EXPECT_EQ(answers[i].tokens.size(), 1 + i % 5);
  }
  EXPECT_EQ(reported, queries.size());
}

TEST(RunQueriesTest, JoinsTheHiddenStatesOfChunksLayerByLayer) {
  OfflineOptions options;
  options.model_folder = "tests/golden/models/llama-gqa";
  std::vector<float> whole;
  for (const int64_t chunk : {64, 2}) {
    options.engine.max_prefill_chunk = chunk;
    ASSERT_OK_AND_ASSIGN(const auto offline, OfflineEngine::Create(options));
    engine::EngineRequest query = Query(1, 0);
    query.prompt = {1, 2, 3, 4, 5, 6, 7};
    query.prompt_logits = query.prompt_hidden = true;
    const auto answers = RunQueries(offline->engine(), {query});
    ASSERT_OK(answers[0].status);
    EXPECT_EQ(answers[0].logits.size(), 7u * offline->spec().vocab_size);
    ASSERT_EQ(answers[0].hidden.size(),
              7u * (offline->spec().layer_count() + 1) * offline->spec().hidden_size);
    if (whole.empty()) whole = answers[0].hidden;
    EXPECT_EQ(answers[0].hidden, whole);
  }
}

}  // namespace
}  // namespace ccoe::services
