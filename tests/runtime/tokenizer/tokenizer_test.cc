// SPDX-License-Identifier: Apache-2.0
#include "runtime/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/str_cat.h"
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

TEST_F(TokenizerConfigTest, RefusesATemplateWhoseIdNoTokenHas) {
  const auto content = [](int id) {
    return absl::StrCat(
        R"({"model":{"type":"BPE","vocab":{"a":0,"b":2},"merges":[]},)",
        R"("post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x"}},)",
        R"({"Sequence":{"id":"A"}}],"special_tokens":{"x":{"ids":[)", id, "]}}}}");
  };
  Write("tokenizer.json", content(2));
  EXPECT_OK(Tokenizer::Load(folder_));
  Write("tokenizer.json", content(1));
  EXPECT_THAT(Tokenizer::Load(folder_), StatusIs(kInvalid, HasSubstr("found 1, which none has")));
}

TEST(StreamingDecoderTest, EmitsACharacterWithItsLastByte) {
  const auto tokenizer = LoadGolden("gpt2");
  ASSERT_NE(tokenizer, nullptr);
  ASSERT_OK_AND_ASSIGN(const Ids ids, tokenizer->Encode("a👩b", false));
  StreamingDecoder decoder(*tokenizer, true);
  std::vector<std::string> parts;
  for (const int32_t id : ids) {
    ASSERT_OK_AND_ASSIGN(const std::string part, decoder.Append(id));
    if (!part.empty()) parts.push_back(part);
  }
  EXPECT_THAT(parts, ::testing::ElementsAre("a", "👩", "b"));
}

TEST(StreamingDecoderTest, SkipsSpecialTokensOnlyWhenAsked) {
  const auto tokenizer = LoadGolden("llama3");
  ASSERT_NE(tokenizer, nullptr);
  StreamingDecoder skipping(*tokenizer, true);
  ASSERT_OK_AND_ASSIGN(const std::string nothing, skipping.Append(763));
  EXPECT_EQ(nothing, "");
  StreamingDecoder keeping(*tokenizer, false);
  ASSERT_OK_AND_ASSIGN(const std::string token, keeping.Append(763));
  EXPECT_EQ(token, "<|begin_of_text|>");
}

TEST(StreamingDecoderTest, GoesOnAfterAnUnknownIdAndEndsOnce) {
  const auto tokenizer = LoadGolden("gpt2");
  ASSERT_NE(tokenizer, nullptr);
  StreamingDecoder decoder(*tokenizer, true);
  EXPECT_THAT(decoder.Append(600), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(decoder.Append(int64_t{1} << 40), StatusIs(absl::StatusCode::kInvalidArgument));
  ASSERT_OK_AND_ASSIGN(const std::string text, decoder.Append(*tokenizer->TokenToId("a")));
  EXPECT_EQ(text, "a");
  EXPECT_OK(decoder.Finish());
  EXPECT_THAT(decoder.Finish(), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(decoder.Append(1), StatusIs(absl::StatusCode::kFailedPrecondition));
}

}  // namespace
}  // namespace ccoe::tokenizer
