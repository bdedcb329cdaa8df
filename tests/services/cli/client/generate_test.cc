// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "services/cli/commands.h"
#include "services/gateway/prepared_query.h"
#include "tests/testing/command_line.h"
#include "tests/testing/fake_inference.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"

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
                                    "--ignore-eos",  "--raw",
                                    "--json"};
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
    ExpectGoldenContinuations("ccoe/backbone", "ccoe/" + expert, {"--bundle", bundle});
    ExpectGoldenContinuations("ccoe/backbone", "ccoe/" + expert,
                              {"--bundle", bundle, "--exchange", "grpc", "--prefill-chunk", "3"});
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

// What `generate --offline` gives to a model with a chat template.
std::vector<int32_t> Continued(std::vector<std::string> more) {
  std::vector<std::string> words = {
      "generate",     "--offline", "--model",       "tests/golden/models/ccoe/backbone",
      "--max-tokens", "12",        "--temperature", "0",
      "--ignore-eos", "--json"};
  words.insert(words.end(), more.begin(), more.end());
  const auto result = testing::RunCcoe(words, {RegisterGenerate});
  EXPECT_EQ(result.exit_code, kExitOk) << result.err;
  return nlohmann::json::parse(result.out)["token_ids"];
}

std::string OneRequest(const std::vector<int32_t>& ids) {
  return testing::WriteTemp("one.jsonl", nlohmann::json{{"id", "a"}, {"token_ids", ids}}.dump());
}

TEST(GenerateOfflineTest, AQuestionStandsInTheChatTemplateUnlessRawSaysNot) {
  const std::string question = "What is the sum of 8 and 1?";
  ASSERT_OK_AND_ASSIGN(const auto model,
                       services::ModelText::Load("tests/golden/models/ccoe/backbone"));
  v1::Chat chat;
  chat.add_messages()->set_role("user");
  chat.mutable_messages(0)->set_content(question);
  ASSERT_OK_AND_ASSIGN(const auto templated, model->Encode(chat));
  ASSERT_OK_AND_ASSIGN(const auto raw, model->Encode(question, /*add_special=*/true));
  const auto answer = Continued({question}), raw_answer = Continued({"--raw", question});
  EXPECT_EQ(answer, Continued({"--requests", OneRequest(templated)}));
  EXPECT_EQ(raw_answer, Continued({"--requests", OneRequest(raw)}));
  EXPECT_NE(answer, raw_answer);
}

TEST(GenerateOfflineTest, WithoutAChatTemplateRawIsTheWayOut) {
  const std::vector<std::string> words = {
      "generate", "--offline", "--model", "tests/golden/models/mixtral-8x2", "--max-tokens", "1"};
  std::vector<std::string> more = words;
  more.push_back("hi");
  const auto refused = testing::RunCcoe(more, {RegisterGenerate});
  EXPECT_EQ(refused.exit_code, kExitFailed);
  EXPECT_THAT(refused.err, HasSubstr("--raw"));
  more.push_back("--raw");
  EXPECT_EQ(testing::RunCcoe(more, {RegisterGenerate}).exit_code, kExitOk);
}

TEST(GenerateOfflineTest, SaysWhyAnAnswerEnded) {
  const auto result =
      testing::RunCcoe({"generate", "--offline", "--model", "tests/golden/models/llama-gqa",
                        "--max-tokens", "3", "--ignore-eos", "Hello"},
                       {RegisterGenerate});
  EXPECT_EQ(result.err, "[3 tokens, ended by its length]\n");
}

TEST(GenerateTest, RefusesFlagsOfTheOtherModeByName) {
  for (const std::vector<std::string>& flag :
       std::vector<std::vector<std::string>>{{"--server", "localhost:1"},
                                             {"--timeout", "3"},
                                             {"--expert", "math"},
                                             {"--tenant", "acme"},
                                             {"--stop", "x"},
                                             {"--concurrency", "2"}}) {
    const auto result = testing::RunCcoe({"generate", "--offline", "--model",
                                          "tests/golden/models/llama-gqa", flag[0], flag[1], "hi"},
                                         {RegisterGenerate});
    EXPECT_EQ(result.exit_code, kExitUsage);
    EXPECT_THAT(result.err, HasSubstr(flag[0] + " has no effect with --offline"));
  }
  for (const std::vector<std::string>& flag :
       std::vector<std::vector<std::string>>{{"--model", "m"},
                                             {"--bundle", "b"},
                                             {"--wire", "bf16"},
                                             {"--threads", "2"},
                                             {"--prefill-chunk", "2"},
                                             {"--expert-kv-tokens", "2"}}) {
    const auto result = testing::RunCcoe({"generate", flag[0], flag[1], "hi"}, {RegisterGenerate});
    EXPECT_EQ(result.exit_code, kExitUsage);
    EXPECT_THAT(result.err, HasSubstr(flag[0] + " has no effect without --offline"));
  }
}

class GenerateOnlineTest : public ::testing::Test {
 protected:
  testing::CommandOutput Run(std::vector<std::string> more) {
    std::vector<std::string> words = {"generate", "--server", server_->addresses()[0],
                                      "--max-tokens", "2"};
    words.insert(words.end(), more.begin(), more.end());
    return testing::RunCcoe(words, {RegisterGenerate});
  }

  // Requests "0", "1", ... with the token ids 0, 1, ...
  static std::string Requests(int count) {
    std::string lines;
    for (int i = 0; i < count; ++i) {
      lines += nlohmann::json{{"id", std::to_string(i)}, {"token_ids", {i}}}.dump() + "\n";
    }
    return testing::WriteTemp("many.jsonl", lines);
  }

  testing::FakeInference fake_;
  std::unique_ptr<services::ServerRunner> server_ = testing::Serve(&fake_);
};

TEST_F(GenerateOnlineTest, AsksManyAtOnceAndPrintsThemInOrder) {
  // Nobody is answered before four have come, and the first not before all have.
  absl::Mutex mutex;
  int come = 0;
  fake_.before_answer = [&](int number, grpc::ServerContext*) {
    absl::MutexLock lock(&mutex);
    ++come;
    const auto enough = [&] { return come >= (number == 0 ? 9 : 4); };
    mutex.Await(absl::Condition(&enough));
    return grpc::Status::OK;
  };
  const auto result = Run({"--requests", Requests(9), "--concurrency", "4", "--json"});
  ASSERT_EQ(result.exit_code, kExitOk) << result.err;
  EXPECT_EQ(fake_.peak(), 4);
  std::istringstream lines(result.out);
  for (int i = 0; i < 9; ++i) {
    std::string line;
    ASSERT_TRUE(std::getline(lines, line));
    const auto answer = nlohmann::json::parse(line);
    EXPECT_EQ(answer["id"], std::to_string(i));
    EXPECT_EQ(answer["token_ids"], (std::vector<int32_t>{i, i + 1}));
  }
}

TEST_F(GenerateOnlineTest, TheFirstErrorInOrderEndsIt) {
  fake_.before_answer = [](int number, grpc::ServerContext*) {
    return number < 2 ? grpc::Status::OK
                      : grpc::Status(grpc::StatusCode::NOT_FOUND, "nobody answers");
  };
  const auto result = Run({"--requests", Requests(300), "--concurrency", "1", "--json"});
  EXPECT_EQ(result.exit_code, kExitFailed);
  EXPECT_THAT(result.err, HasSubstr("request \"2\": nobody answers"));
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 2);
  EXPECT_LT(fake_.requests().size(), 300u);
}

TEST_F(GenerateOnlineTest, AListFlagDoesNotSwallowTheQuestion) {
  EXPECT_EQ(Run({"--stop", "x", "--stop", "y", "hi"}).exit_code, kExitOk);
  ASSERT_EQ(fake_.requests().size(), 1u);
  EXPECT_EQ(fake_.requests()[0].chat().messages(0).content(), "hi");
  EXPECT_EQ(fake_.requests()[0].stop_size(), 2);
}

TEST_F(GenerateOnlineTest, SaysWhoAnsweredAndWhyItEnded) {
  EXPECT_THAT(Run({"--raw", "hi"}).err, HasSubstr("tokens, ended by its length"));
  EXPECT_EQ(Run({"--concurrency", "2", "hi"}).exit_code, kExitUsage);
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
