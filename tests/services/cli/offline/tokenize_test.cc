// SPDX-License-Identifier: Apache-2.0
#include <fstream>
#include <iostream>
#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "services/cli/commands.h"
#include "tests/testing/command_line.h"

namespace ccoe::cli {
namespace {

using ::testing::HasSubstr;

testing::CommandOutput Tokenize(const std::string& input, std::vector<std::string> more,
                                const std::string& style = "llama3") {
  std::vector<std::string> words = {"tokenize", "--model", "tests/golden/tokenizers/" + style};
  words.insert(words.end(), more.begin(), more.end());
  std::istringstream text(input);
  std::streambuf* old = std::cin.rdbuf(text.rdbuf());
  std::cin.clear();
  testing::CommandOutput output = testing::RunCcoe(words, {RegisterTokenize});
  std::cin.rdbuf(old);
  return output;
}

class TokenizeCasesTest : public ::testing::TestWithParam<std::string> {};

TEST_P(TokenizeCasesTest, GivesTheReferencesIdsAndTexts) {
  std::ifstream file("tests/golden/tokenizers/" + GetParam() + "/cases.json");
  const nlohmann::json cases = nlohmann::json::parse(file);
  std::string texts, ids;
  for (const auto& c : cases["encode_cases"]) {
    texts += c["text"].dump() + "\n";
    ids += c["ids"].dump() + "\n";
  }
  const auto encoded = Tokenize(texts, {"--json", "--no-special"}, GetParam());
  ASSERT_EQ(encoded.exit_code, kExitOk) << encoded.err;
  const auto with_special = Tokenize(texts, {"--json"}, GetParam());
  ASSERT_EQ(with_special.exit_code, kExitOk) << with_special.err;
  const auto decoded = Tokenize(ids, {"--json", "--decode", "--skip-special"}, GetParam());
  ASSERT_EQ(decoded.exit_code, kExitOk) << decoded.err;
  std::istringstream lines(encoded.out), special(with_special.out), back(decoded.out);
  for (const auto& c : cases["encode_cases"]) {
    std::string line;
    ASSERT_TRUE(std::getline(lines, line));
    EXPECT_EQ(nlohmann::json::parse(line), c["ids"]) << c["text"];
    ASSERT_TRUE(std::getline(special, line));
    EXPECT_EQ(nlohmann::json::parse(line), c["ids_with_special"]) << c["text"];
    ASSERT_TRUE(std::getline(back, line));
    EXPECT_EQ(nlohmann::json::parse(line), c["decoded_skip_special"]) << c["text"];
  }
}

INSTANTIATE_TEST_SUITE_P(Styles, TokenizeCasesTest,
                         ::testing::Values("gpt2", "llama3", "qwen2", "seqsplit", "spm"));

TEST(TokenizeTest, SaysWhichLineIsWrong) {
  EXPECT_THAT(Tokenize("\"ok\"\n{\n", {"--json"}).err, HasSubstr("line 2"));
  EXPECT_THAT(Tokenize("7\n", {"--json"}).err, HasSubstr("expected a JSON string"));
  EXPECT_THAT(Tokenize("[99999999]\n", {"--json", "--decode"}).err, HasSubstr("99999999"));
  EXPECT_EQ(Tokenize("", {"--skip-special"}).exit_code, kExitUsage);
  EXPECT_EQ(Tokenize("", {}, "nowhere").exit_code, kExitFailed);
}

}  // namespace

}  // namespace ccoe::cli
