// SPDX-License-Identifier: Apache-2.0
// Every golden checkpoint, layer by layer, against the reference implementation's numbers.
#include <algorithm>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/model/families/hf_config.h"
#include "runtime/model/weights.h"
#include "tests/testing/expect_close.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/model_run.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

using testing::ExpectClose;
using testing::GoldenModel;
using testing::GoldenPrompt;
using testing::ModelRun;
using testing::ModelRunOptions;
using testing::RunOutput;

using testing::GoldenTolerance;

std::vector<std::string> AllModels() {
  std::vector<std::string> models = testing::DenseModels();
  for (const std::string& expert : testing::GoldenExperts()) models.push_back("ccoe/" + expert);
  const std::vector<std::string>& moe = testing::MoeModels();
  models.insert(models.end(), moe.begin(), moe.end());
  return models;
}

class GoldenLogitsTest : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenLogitsTest, LogitsOfEveryPromptMatchTheReference) {
  ASSERT_OK_AND_ASSIGN(const GoldenModel golden, testing::LoadGolden(GetParam()));
  for (const GoldenPrompt& prompt : golden.prompts) {
    ASSERT_OK_AND_ASSIGN(auto run, ModelRun::Open(golden.folder, ModelRunOptions{}));
    ASSERT_OK_AND_ASSIGN(const RunOutput out, run->Feed(prompt.ids));
    ASSERT_OK_AND_ASSIGN(const auto expected, golden.Array("logits." + prompt.id));
    ExpectClose(out.logits, expected, GoldenTolerance(GetParam()), prompt.id);
  }
}

TEST_P(GoldenLogitsTest, HiddenStatesOfEveryLayerMatchTheReference) {
  ASSERT_OK_AND_ASSIGN(const GoldenModel golden, testing::LoadGolden(GetParam()));
  const auto prompt =
      std::find_if(golden.prompts.begin(), golden.prompts.end(),
                   [&](const GoldenPrompt& p) { return p.id == golden.hidden_prompt; });
  ASSERT_NE(prompt, golden.prompts.end());
  ASSERT_OK_AND_ASSIGN(auto run, ModelRun::Open(golden.folder, ModelRunOptions{}));
  ASSERT_OK_AND_ASSIGN(const RunOutput out, run->Feed(prompt->ids));
  for (size_t i = 0; i < out.hidden.size(); ++i) {
    const std::string name = "hidden." + std::to_string(i);
    ASSERT_OK_AND_ASSIGN(const auto expected, golden.Array(name));
    ExpectClose(out.hidden[i], expected, GoldenTolerance(GetParam()), name);
  }
  ASSERT_OK_AND_ASSIGN(const auto expected, golden.Array("hidden.final_norm"));
  ExpectClose(out.normed, expected, GoldenTolerance(GetParam()), "hidden.final_norm");
}

TEST_P(GoldenLogitsTest, GreedyContinuationsThroughTheCacheMatchTheReference) {
  ASSERT_OK_AND_ASSIGN(const GoldenModel golden, testing::LoadGolden(GetParam()));
  for (const GoldenPrompt& prompt : golden.prompts) {
    ASSERT_OK_AND_ASSIGN(auto run, ModelRun::Open(golden.folder, ModelRunOptions{}));
    ASSERT_OK_AND_ASSIGN(const auto ids,
                         run->Greedy(prompt.ids, static_cast<int>(prompt.greedy_ids.size())));
    EXPECT_EQ(ids, prompt.greedy_ids) << prompt.id;
  }
}

TEST_P(GoldenLogitsTest, ChunksPagesAndThreadsChangeNoBit) {
  ASSERT_OK_AND_ASSIGN(const GoldenModel golden, testing::LoadGolden(GetParam()));
  const std::vector<int32_t>& ids = golden.prompts.back().ids;
  ASSERT_OK_AND_ASSIGN(auto whole, ModelRun::Open(golden.folder, ModelRunOptions{}));
  ASSERT_OK_AND_ASSIGN(const RunOutput expected, whole->Feed(ids));
  for (const size_t chunk : {1, 3, 7, 64}) {
    for (const int64_t page_tokens : {1, 5, 32}) {
      ModelRunOptions options;
      options.page_tokens = page_tokens;
      options.threads = chunk == 3 ? 1 : 2;
      ASSERT_OK_AND_ASSIGN(auto run, ModelRun::Open(golden.folder, options));
      ASSERT_OK_AND_ASSIGN(const RunOutput out, run->FeedInChunks(ids, chunk));
      EXPECT_TRUE(out.logits == expected.logits) << "chunk " << chunk << ", page " << page_tokens;
      EXPECT_TRUE(out.hidden == expected.hidden) << "chunk " << chunk << ", page " << page_tokens;
    }
  }
}

TEST_P(GoldenLogitsTest, ADeviceWithMemoryOfItsOwnGivesTheSameBits) {
  ASSERT_OK_AND_ASSIGN(const GoldenModel golden, testing::LoadGolden(GetParam()));
  const std::vector<int32_t>& ids = golden.prompts.back().ids;
  ASSERT_OK_AND_ASSIGN(auto host, ModelRun::Open(golden.folder, ModelRunOptions{}));
  ASSERT_OK_AND_ASSIGN(const RunOutput expected, host->FeedInChunks(ids, 5));
  testing::TaggedDevice device;
  ModelRunOptions options;
  options.device = &device;
  ASSERT_OK_AND_ASSIGN(auto run, ModelRun::Open(golden.folder, options));
  ASSERT_OK_AND_ASSIGN(const RunOutput out, run->FeedInChunks(ids, 5));
  EXPECT_TRUE(out.logits == expected.logits);
  EXPECT_TRUE(out.hidden == expected.hidden);
  EXPECT_TRUE(out.normed == expected.normed);
}

std::string NameOf(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == '-' || c == '/'; }, '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenLogitsTest, ::testing::ValuesIn(AllModels()), NameOf);

}  // namespace
}  // namespace ccoe::model
