#include "runtime/tokenizer/tokenizer_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/testing/status_matchers.h"

namespace ccoe::tokenizer {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

class TokenizerConfigTest : public ::testing::Test {
 protected:
  TokenizerConfigTest() : folder_(::testing::TempDir() + "/config") {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void Write(const std::string& name, const std::string& content) {
    std::ofstream(folder_ + "/" + name) << content;
  }

  const std::string folder_;
};

TEST_F(TokenizerConfigTest, IsEmptyWithoutFiles) {
  ASSERT_OK_AND_ASSIGN(const TokenizerConfig config, ReadTokenizerConfig(folder_));
  EXPECT_EQ(config.bos_token, "");
  EXPECT_EQ(config.chat_template, "");
}

TEST_F(TokenizerConfigTest, ReadsTokensInBothFormsAndFillsGapsFromTheMap) {
  Write(
      "tokenizer_config.json",
      R"({"bos_token":{"content":"<s>"},"eos_token":"</s>","pad_token":null,"chat_template":"x"})");
  Write("special_tokens_map.json", R"({"bos_token":"other","pad_token":"<pad>"})");
  ASSERT_OK_AND_ASSIGN(const TokenizerConfig config, ReadTokenizerConfig(folder_));
  EXPECT_EQ(config.bos_token, "<s>");
  EXPECT_EQ(config.eos_token, "</s>");
  EXPECT_EQ(config.pad_token, "<pad>");
  EXPECT_EQ(config.chat_template, "x");
}

TEST_F(TokenizerConfigTest, PrefersTheTemplateFileThenTheDefaultOne) {
  Write("tokenizer_config.json",
        R"({"chat_template":[{"name":"tool","template":"t"},{"name":"default","template":"d"}]})");
  ASSERT_OK_AND_ASSIGN(const TokenizerConfig named, ReadTokenizerConfig(folder_));
  EXPECT_EQ(named.chat_template, "d");
  Write("chat_template.jinja", "file");
  ASSERT_OK_AND_ASSIGN(const TokenizerConfig file, ReadTokenizerConfig(folder_));
  EXPECT_EQ(file.chat_template, "file");
}

TEST_F(TokenizerConfigTest, RefusesBrokenFiles) {
  for (const char* content :
       {"{", "[]", R"({"bos_token":3})", R"({"chat_template":3})", R"({"eos_token":{}})"}) {
    Write("tokenizer_config.json", content);
    EXPECT_THAT(ReadTokenizerConfig(folder_),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tokenizer_config.json")))
        << content;
  }
}

}  // namespace
}  // namespace ccoe::tokenizer
