#include "runtime/tokenizer/streaming_decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/runtime/tokenizer/golden_cases.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::tokenizer {
namespace {

using ::ccoe::testing::StatusIs;

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
