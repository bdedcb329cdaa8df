// SPDX-License-Identifier: Apache-2.0
// Every golden case, exactly: text to ids, ids to text at once, and ids to text one by one.
#include <gtest/gtest.h>

#include <random>

#include "runtime/tokenizer/tokenizer.h"
#include "runtime/tokenizer/unicode.h"
#include "tests/runtime/tokenizer/golden_cases.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::tokenizer {
namespace {

void ExpectEncodes(const Tokenizer& tokenizer, const std::string& text, bool add_special,
                   const Ids& ids) {
  ASSERT_OK_AND_ASSIGN(const Ids found, tokenizer.Encode(text, add_special));
  EXPECT_EQ(found, ids) << "text: " << text << ", add_special " << add_special;
}

std::string Stream(const Tokenizer& tokenizer, const Ids& ids, bool skip_special) {
  StreamingDecoder decoder(tokenizer, skip_special);
  std::string text;
  for (const int32_t id : ids) {
    const absl::StatusOr<std::string> part = decoder.Append(id);
    EXPECT_OK(part);
    EXPECT_EQ(ValidUtf8Prefix(*part), part->size()) << "half a character";
    text += *part;
  }
  const absl::StatusOr<std::string> rest = decoder.Finish();
  EXPECT_OK(rest);
  return text + *rest;
}

void ExpectDecodes(const Tokenizer& tokenizer, const Ids& ids, bool skip_special,
                   const std::string& text) {
  ASSERT_OK_AND_ASSIGN(const std::string found, tokenizer.Decode(ids, skip_special));
  EXPECT_EQ(found, text) << "skip_special " << skip_special;
  EXPECT_EQ(Stream(tokenizer, ids, skip_special), text) << "streamed";
}

class StyleTest : public ::testing::TestWithParam<std::string> {};

TEST_P(StyleTest, EncodesAndDecodesItsCases) {
  const auto tokenizer = LoadGolden(GetParam());
  ASSERT_NE(tokenizer, nullptr);
  const nlohmann::json cases = GoldenJson(GetParam() + "/cases.json");
  EXPECT_EQ(tokenizer->vocab_size(), cases["vocab_size"].get<int32_t>());
  ASSERT_EQ(cases["encode_cases"].size(), 52u);
  for (const auto& entry : cases["encode_cases"]) {
    const Ids with_special = entry["ids_with_special"].get<Ids>();
    ExpectEncodes(*tokenizer, entry["text"], false, entry["ids"].get<Ids>());
    ExpectEncodes(*tokenizer, entry["text"], true, with_special);
    ExpectDecodes(*tokenizer, entry["ids"].get<Ids>(), false, entry["decoded"]);
    ExpectDecodes(*tokenizer, entry["ids"].get<Ids>(), true, entry["decoded_skip_special"]);
  }
  ASSERT_GE(cases["decode_cases"].size(), 44u);
  for (const auto& entry : cases["decode_cases"]) {
    ExpectDecodes(*tokenizer, entry["ids"].get<Ids>(), false, entry["decoded"]);
    ExpectDecodes(*tokenizer, entry["ids"].get<Ids>(), true, entry["decoded_skip_special"]);
  }
}

TEST_P(StyleTest, StreamsRandomIdsToWhatDecodeGives) {
  const auto tokenizer = LoadGolden(GetParam());
  ASSERT_NE(tokenizer, nullptr);
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    Ids ids(random() % 40);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % tokenizer->vocab_size());
    const bool skip_special = round % 2 == 0;
    ASSERT_OK_AND_ASSIGN(const std::string text, tokenizer->Decode(ids, skip_special));
    EXPECT_EQ(Stream(*tokenizer, ids, skip_special), text);
  }
}

INSTANTIATE_TEST_SUITE_P(Styles, StyleTest, ::testing::ValuesIn(Styles()),
                         [](const auto& info) { return info.param; });

class ModelTokenizerTest : public ::testing::TestWithParam<std::string> {};

TEST_P(ModelTokenizerTest, EncodesPromptsAndDecodesContinuations) {
  const auto tokenizer = LoadGolden("models/" + GetParam());
  ASSERT_NE(tokenizer, nullptr);
  const nlohmann::json prompts = GoldenJson("models/" + GetParam() + "/prompts.json");
  ASSERT_GE(prompts.size(), 18u);
  for (const auto& prompt : prompts) {
    SCOPED_TRACE(prompt["model"].get<std::string>() + " " + prompt["id"].get<std::string>());
    ExpectEncodes(*tokenizer, prompt["text"], true, prompt["ids"].get<Ids>());
    ExpectEncodes(*tokenizer, prompt["text"], false, prompt["ids_without_special"].get<Ids>());
    const Ids greedy = prompt["greedy_ids"].get<Ids>();
    ExpectDecodes(*tokenizer, greedy, true, prompt["greedy_text"]);
    ExpectDecodes(*tokenizer, greedy, false, prompt["greedy_text_with_special"]);
  }
}

INSTANTIATE_TEST_SUITE_P(Styles, ModelTokenizerTest, ::testing::ValuesIn(ModelStyles()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace ccoe::tokenizer
