// SPDX-License-Identifier: Apache-2.0
#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "services/cli/commands.h"
#include "tests/testing/command_line.h"
#include "tests/testing/golden_model.h"

namespace ccoe::cli {
namespace {

using ::testing::HasSubstr;

// Greedy continuations of all golden prompts of `prompts_of` on `model`, as the command prints
// them.
void ExpectGoldenContinuations(const std::string& model, const std::string& prompts_of,
                               std::vector<std::string> more) {
  const auto prompts = testing::ReadGoldenPrompts(prompts_of);
  std::string lines;
  for (const auto& prompt : prompts)
    lines += nlohmann::json{{"id", prompt.id}, {"text", prompt.text}}.dump() + "\n";
  std::vector<std::string> words = {"generate",      "--offline",
                                    "--model",       testing::GoldenFolder(model),
                                    "--requests",    testing::WriteTemp("requests.jsonl", lines),
                                    "--max-tokens",  "32",
                                    "--temperature", "0",
                                    "--ignore-eos",  "--json"};
  words.insert(words.end(), more.begin(), more.end());
  const auto result = testing::RunCcoe(words, {RegisterGenerate});
  ASSERT_EQ(result.exit_code, kExitOk) << result.err;
  std::istringstream answers(result.out);
  for (const auto& prompt : prompts) {
    std::string line;
    ASSERT_TRUE(std::getline(answers, line));
    const nlohmann::json answer = nlohmann::json::parse(line);
    EXPECT_EQ(answer["id"], prompt.id);
    EXPECT_EQ(answer["token_ids"].get<std::vector<int32_t>>(), prompt.greedy_ids)
        << prompts_of << " " << prompt.id;
    EXPECT_EQ(answer["text"], prompt.greedy_text) << prompts_of << " " << prompt.id;
    EXPECT_EQ(answer["finish_reason"], "length");
  }
}

TEST(GenerateOfflineTest, ContinuesAsTheReferenceOnEveryDenseModel) {
  for (const std::string& model : testing::DenseModels())
    ExpectGoldenContinuations(model, model, {});
}

TEST(GenerateOfflineTest, ContinuesAsTheReferenceOnEveryExpert) {
  for (const std::string& expert : testing::GoldenExperts()) {
    const std::string bundle = testing::TempPath("bundle-" + expert);
    ASSERT_EQ(testing::RunCcoe({"experts", "extract", "--base", "tests/golden/models/ccoe/backbone",
                                "--tuned", "tests/golden/models/ccoe/" + expert, "--layers", "4:8",
                                "--name", expert, "--output", bundle},
                               {RegisterExperts})
                  .exit_code,
              kExitOk);
    ExpectGoldenContinuations("ccoe/backbone", "ccoe/" + expert, {"--expert", bundle});
    ExpectGoldenContinuations("ccoe/backbone", "ccoe/" + expert,
                              {"--expert", bundle, "--exchange", "grpc", "--chunk", "3"});
  }
}

TEST(GenerateOfflineTest, TakesOneQuestionFromTheCommandLine) {
  const auto result = testing::RunCcoe(
      {"generate", "--offline", "--model", "tests/golden/models/llama-gqa", "--max-tokens", "4",
       "--temperature", "0", "--ignore-eos", "--json", "Hello"},
      {RegisterGenerate});
  ASSERT_EQ(result.exit_code, kExitOk) << result.err;
  EXPECT_EQ(nlohmann::json::parse(result.out)["token_ids"].size(), 4u);
}

TEST(GenerateOfflineTest, ExplainsWrongUse) {
  const std::string model = "tests/golden/models/llama-gqa";
  EXPECT_EQ(
      testing::RunCcoe({"generate", "--offline", "--model", model}, {RegisterGenerate}).exit_code,
      kExitUsage);
  EXPECT_EQ(testing::RunCcoe({"generate", "--offline", "hi"}, {RegisterGenerate}).exit_code,
            kExitUsage);
  EXPECT_EQ(testing::RunCcoe({"generate", "--offline", "--model", model, "--stop", "x", "hi"},
                             {RegisterGenerate})
                .exit_code,
            kExitUsage);
  EXPECT_THAT(testing::RunCcoe({"generate", "--offline", "--model", model, "--top-p", "7", "hi"},
                               {RegisterGenerate})
                  .err,
              HasSubstr("top_p"));
}

}  // namespace

}  // namespace ccoe::cli
