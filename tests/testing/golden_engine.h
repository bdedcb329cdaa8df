// SPDX-License-Identifier: Apache-2.0
// An engine over the golden backbone and its five experts, and the golden answers it is held to.
#ifndef CCOE_TESTS_TESTING_GOLDEN_ENGINE_H_
#define CCOE_TESTS_TESTING_GOLDEN_ENGINE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/testing/engine_cluster.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/recording_sink.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::testing {

inline EngineClusterOptions SmallOptions() {
  EngineClusterOptions options;
  options.engine.kv_tokens = 4096;
  options.engine.page_tokens = 16;
  options.expert.kv_tokens = 4096;
  options.expert.page_tokens = 16;
  return options;
}

// The tests of a suite share the golden files.
class GoldenEngineTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    goldens_ = new std::map<std::string, GoldenModel>();
    for (const std::string name : {"backbone", "code", "math", "law", "sql", "medical"}) {
      auto golden = LoadGolden("ccoe/" + name);
      ASSERT_OK(golden);
      goldens_->emplace(name == "backbone" ? "" : name, *std::move(golden));
    }
  }
  static void TearDownTestSuite() {
    delete goldens_;
    goldens_ = nullptr;
  }

  void Start(const EngineClusterOptions& options = SmallOptions()) {
    cluster_.reset();
    auto cluster = EngineCluster::Create(options);
    ASSERT_OK(cluster);
    cluster_ = *std::move(cluster);
  }
  // The five golden experts, spread over the workers.
  void StartWithExperts(const EngineClusterOptions& options = SmallOptions()) {
    ASSERT_NO_FATAL_FAILURE(Start(options));
    for (size_t i = 0; i < GoldenExperts().size(); ++i) {
      ASSERT_OK(cluster_->AddExpert(GoldenExperts()[i], GoldenExperts()[i], {4, 8},
                                    static_cast<int>(i) % options.expert_workers));
    }
  }

  uint64_t Submit(AnswerRecorder& recorder, engine::EngineRequest query,
                  AnswerRecorder::Hook hook = nullptr) {
    const auto handle = cluster_->engine().Submit(std::move(query), recorder.Sink(std::move(hook)));
    EXPECT_OK(handle);
    return handle.value_or(0);
  }
  RecordedAnswer Ask(engine::EngineRequest query) {
    AnswerRecorder recorder;
    Submit(recorder, std::move(query));
    return recorder.Wait();
  }
  const GoldenPrompt& Prompt(const std::string& expert, const std::string& id) const {
    for (const GoldenPrompt& prompt : goldens_->at(expert).prompts) {
      if (prompt.id == id) return prompt;
    }
    ADD_FAILURE() << "no prompt " << id;
    return goldens_->at(expert).prompts[0];
  }
  // All golden prompts for the base and every expert at once; each must continue as the reference
  // does.
  void ExpectGoldenContinuations() {
    std::vector<AnswerRecorder> recorders(goldens_->size() * 6);
    size_t next = 0;
    for (const auto& [expert, golden] : *goldens_) {
      for (const GoldenPrompt& prompt : golden.prompts)
        Submit(recorders[next++], GreedyQuery(prompt.ids, expert));
    }
    next = 0;
    for (const auto& [expert, golden] : *goldens_) {
      for (const GoldenPrompt& prompt : golden.prompts) {
        const RecordedAnswer answer = recorders[next++].Wait();
        EXPECT_OK(answer.status);
        EXPECT_EQ(answer.ids(), prompt.greedy_ids) << expert << " " << prompt.id;
        EXPECT_EQ(answer.reason, engine::FinishReason::kLength);
      }
    }
  }
  inline static std::map<std::string, GoldenModel>* goldens_ =
      nullptr;  // by expert; "": the backbone
  std::unique_ptr<EngineCluster> cluster_;
};

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_GOLDEN_ENGINE_H_
