// SPDX-License-Identifier: Apache-2.0
#include "services/offline/offline_engine.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/experts/extract.h"
#include "services/offline/collector.h"
#include "tests/testing/command_line.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

std::string Bundle(const std::string& expert, model::LayerRange layers) {
  experts::ExtractOptions options;
  options.base_folder = "tests/golden/models/ccoe/backbone";
  options.tuned_folder = "tests/golden/models/ccoe/" + expert;
  options.layers = layers;
  options.name = expert;
  options.output_folder = testing::TempPath(expert + "-" + std::to_string(layers.first) + "-" +
                                            std::to_string(layers.last));
  const auto report = experts::ExtractExpert(options);
  EXPECT_TRUE(report.ok() || absl::IsAlreadyExists(report.status())) << report.status();
  return options.output_folder;
}

engine::EngineRequest Query(const testing::GoldenPrompt& prompt, const std::string& expert) {
  engine::EngineRequest query;
  query.query_id = expert + prompt.id;
  query.prompt = prompt.ids;
  if (!expert.empty()) query.expert = {expert, 1};
  query.sampling.temperature = 0;
  query.sampling.ignore_eos = true;
  query.sampling.max_tokens = 32;
  return query;
}

std::vector<int32_t> Ids(const Answer& answer) {
  EXPECT_OK(answer.status);
  std::vector<int32_t> ids;
  for (const auto& token : answer.tokens) ids.push_back(token.token_id);
  return ids;
}

TEST(OfflineEngineTest, AnswersEveryExpertAsItsFullCheckpointAmongTheQueriesOfAllOthers) {
  OfflineOptions options;
  options.model_folder = "tests/golden/models/ccoe/backbone";
  for (const std::string& expert : testing::GoldenExperts())
    options.expert_folders.push_back(Bundle(expert, {4, 8}));
  for (const int workers : {1, 2, 5}) {
    for (const ExchangeKind exchange : {ExchangeKind::kLocal, ExchangeKind::kGrpc}) {
      options.expert_workers = workers;
      options.exchange = exchange;
      ASSERT_OK_AND_ASSIGN(const auto offline, OfflineEngine::Create(options));
      std::vector<engine::EngineRequest> queries;
      std::vector<std::vector<int32_t>> expected;
      for (const auto& prompt : testing::ReadGoldenPrompts("ccoe/backbone")) {
        queries.push_back(Query(prompt, ""));
        expected.push_back(prompt.greedy_ids);
      }
      for (const std::string& expert : testing::GoldenExperts()) {
        for (const auto& prompt : testing::ReadGoldenPrompts("ccoe/" + expert)) {
          queries.push_back(Query(prompt, expert));
          expected.push_back(prompt.greedy_ids);
        }
      }
      const auto answers = RunQueries(offline->engine(), queries);
      for (size_t i = 0; i < answers.size(); ++i)
        EXPECT_EQ(Ids(answers[i]), expected[i]) << queries[i].query_id << " " << workers;
    }
  }
}

TEST(OfflineEngineTest, ServesTheBackboneWithoutItsOwnTopToExpertsOnly) {
  OfflineOptions options;
  options.model_folder = "tests/golden/models/ccoe/backbone";
  options.expert_folders = {Bundle("math", {4, 8})};
  options.backbone_layers = 4;
  ASSERT_OK_AND_ASSIGN(const auto offline, OfflineEngine::Create(options));
  const auto prompt = testing::ReadGoldenPrompts("ccoe/math").front();
  const auto answers = RunQueries(offline->engine(), {Query(prompt, "math"), Query(prompt, "")});
  EXPECT_EQ(Ids(answers[0]), prompt.greedy_ids);
  EXPECT_FALSE(answers[1].status.ok());
}

TEST(OfflineEngineTest, RefusesABundleOfAnotherBaseAndOddCounts) {
  OfflineOptions options;
  options.model_folder = "tests/golden/models/llama3-rope-tied";
  options.expert_folders = {Bundle("math", {4, 8})};
  EXPECT_THAT(OfflineEngine::Create(options),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("math")));
  options.expert_folders = {};
  options.expert_workers = -1;
  EXPECT_THAT(OfflineEngine::Create(options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found -1")));
  options.expert_workers = 1;
  options.backbone_layers = 99;
  EXPECT_THAT(OfflineEngine::Create(options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found 99")));
}

TEST(ParseExchangeTest, KnowsTheTwoTransports) {
  EXPECT_OK(ParseExchange("local"));
  EXPECT_OK(ParseExchange("grpc"));
  EXPECT_THAT(ParseExchange("nccl"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found \"nccl\"")));
}

}  // namespace
}  // namespace ccoe::services
