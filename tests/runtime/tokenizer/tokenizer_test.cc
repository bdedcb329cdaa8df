#include "runtime/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/runtime/tokenizer/golden_cases.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::tokenizer {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(TokenizerTest, KnowsItsSpecialTokens) {
  const auto tokenizer = LoadGolden("llama3");
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->config().bos_token, "<|begin_of_text|>");
  EXPECT_EQ(tokenizer->bos_id(), 763);
  EXPECT_EQ(tokenizer->eos_id(), 764);
  EXPECT_EQ(tokenizer->pad_id(), std::nullopt);
  EXPECT_TRUE(tokenizer->IsSpecial(763));
  EXPECT_FALSE(tokenizer->IsSpecial(5));
  EXPECT_FALSE(tokenizer->IsSpecial(-1));
  EXPECT_EQ(tokenizer->TokenToId("<|eot_id|>"), 767);
  EXPECT_EQ(tokenizer->TokenToId("no such token"), std::nullopt);
  ASSERT_OK_AND_ASSIGN(const std::string token, tokenizer->IdToToken(764));
  EXPECT_EQ(token, "<|end_of_text|>");
  EXPECT_THAT(tokenizer->chat_template(), HasSubstr("start_header_id"));
}

TEST(TokenizerTest, RefusesBadInputWithItsPlace) {
  const auto tokenizer = LoadGolden("gpt2");
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_THAT(tokenizer->Encode("abc\xFFz", true), StatusIs(kInvalid, HasSubstr("at byte 3")));
  EXPECT_THAT(tokenizer->Encode(std::string(kMaxTextBytes + 1, 'x'), true),
              StatusIs(kInvalid, HasSubstr("at most")));
  EXPECT_THAT(tokenizer->Decode({1, 600}, false),
              StatusIs(kInvalid, HasSubstr("[0, 600), found 600")));
  EXPECT_THAT(tokenizer->Decode({-1}, true), StatusIs(kInvalid, HasSubstr("found -1")));
  EXPECT_THAT(tokenizer->IdToToken(600), StatusIs(kInvalid));
}

TEST(TokenizerTest, NamesTheFileThatIsMissingOrBroken) {
  const std::string folder = ::testing::TempDir() + "/broken";
  std::filesystem::create_directories(folder);
  std::filesystem::remove(folder + "/tokenizer.json");
  EXPECT_THAT(Tokenizer::Load(folder),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("tokenizer.json")));
  for (const char* content :
       {"", "{", "[]", "{}", R"({"model":{"type":"BPE","vocab":{},"merges":[]}})"}) {
    std::ofstream(folder + "/tokenizer.json") << content;
    const auto tokenizer = Tokenizer::Load(folder);
    EXPECT_FALSE(tokenizer.ok()) << content;
    EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr("tokenizer.json"));
  }
}

TEST(TokenizerTest, EncodesAlikeFromManyThreads) {
  const auto tokenizer = LoadGolden("qwen2");
  ASSERT_NE(tokenizer, nullptr);
  const std::string text = "The quick brown fox — 東京 <|im_start|> 12345";
  ASSERT_OK_AND_ASSIGN(const Ids expected, tokenizer->Encode(text, true));
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        EXPECT_EQ(tokenizer->Encode(text, true).value_or(Ids()), expected);
        EXPECT_EQ(tokenizer->Decode(expected, false).value_or(""), text);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace ccoe::tokenizer
