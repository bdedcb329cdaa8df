// SPDX-License-Identifier: Apache-2.0
#include "runtime/tokenizer/decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/testing/status_matchers.h"

namespace ccoe::tokenizer {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

void Give(DecodeStage& stage, absl::string_view token) {
  stage.Text(token);
  stage.EndToken();
}

TEST(DecodeStagesTest, ByteLevelHoldsBackHalfCharacters) {
  GatherStage gather;
  ByteLevelStage stage(&gather);
  Give(stage, "æĹ");
  EXPECT_EQ(gather.Take(), "");
  Give(stage, "¥");
  EXPECT_EQ(gather.Take(), "日");
  Give(stage, "æĹa");
  EXPECT_EQ(gather.Take(), "\uFFFDa");
  Give(stage, "æ");
  stage.EndStream();
  EXPECT_EQ(gather.Take(), "\uFFFD");
}

TEST(DecodeStagesTest, ByteFallbackSpoilsAWholeRun) {
  GatherStage gather;
  ByteFallbackStage stage(&gather);
  for (const char* token : {"<0xE6>", "<0x97>", "<0xa5>"}) Give(stage, token);
  EXPECT_EQ(gather.Take(), "") << "the run may yet go wrong";
  Give(stage, "x");
  EXPECT_EQ(gather.Take(), "日x");
  for (const char* token : {"<0xE6>", "<0x41>", "<0x42>"}) Give(stage, token);
  EXPECT_EQ(gather.Take(), "\uFFFD\uFFFD\uFFFD");
  Give(stage, "<0xZZ>");
  EXPECT_EQ(gather.Take(), "<0xZZ>");
  Give(stage, "<0xE6>");
  stage.EndStream();
  EXPECT_EQ(gather.Take(), "\uFFFD");
}

TEST(DecodeStagesTest, StripTakesFromBothEndsOfEachToken) {
  const std::string blank = " ";
  GatherStage gather;
  StripStage stage(&gather, blank, 1, 2);
  Give(stage, "  a  b   ");
  EXPECT_EQ(gather.Take(), " a  b ");
  stage.Text(" ");
  stage.Text("a ");
  EXPECT_EQ(gather.Take(), "a");
  stage.Text("b");
  EXPECT_EQ(gather.Take(), " b");
  stage.EndToken();
  Give(stage, " ");
  EXPECT_EQ(gather.Take(), "");
}

TEST(DecodeStagesTest, MetaspaceDropsTheFirstTokensBlanks) {
  Metaspace options;
  options.replacement = "▁";
  GatherStage gather;
  MetaspaceStage stage(&gather, options);
  Give(stage, "▁a▁");
  Give(stage, "▁b");
  EXPECT_EQ(gather.Take(), "a b");
}

TEST(DecodeStagesTest, ReplaceJoinAndFusePassTextOn) {
  auto pattern = Pattern::Literal("▁");
  const std::string content = " ";
  GatherStage gather;
  JoinStage join(&gather);
  ReplaceStage replace(&join, *pattern, content);
  Give(replace, "▁a");
  Give(replace, "b");
  EXPECT_EQ(gather.Take(), " a b");
  GatherStage fused;
  JoinStage after(&fused);
  FuseStage fuse(&after);
  Give(fuse, "a");
  Give(fuse, "b");
  fuse.EndStream();
  EXPECT_EQ(fused.Take(), "ab");
}

using Json = nlohmann::json;

std::string Decode(const std::string& json, const std::vector<std::string>& tokens) {
  const absl::StatusOr<Decoder> decoder = Decoder::Create(Json::parse(json));
  EXPECT_OK(decoder);
  const auto stream = decoder->NewStream();
  std::string text;
  for (const std::string& token : tokens) text += stream->Append(token).value_or("?");
  return text + stream->Finish().value_or("?");
}

TEST(DecoderTest, DecodesEachStyle) {
  EXPECT_EQ(Decode("null", {"a", "b"}), "a b");
  EXPECT_EQ(Decode(R"({"type":"ByteLevel"})", {"Ġa", "Ċ"}), " a\n");
  EXPECT_EQ(
      Decode(R"({"type":"Metaspace","replacement":"▁","prepend_scheme":"never"})", {"▁a", "▁b"}),
      " a b");
  EXPECT_EQ(
      Decode(
          R"({"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},
      {"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]})",
          {"▁", "▁a", "<0xC3>", "<0xA9>", "▁"}),
      " aé ");
  EXPECT_EQ(
      Decode(
          R"({"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"Replace","pattern":{"String":"ab"},"content":"x"}]})",
          {"a", "b"}),
      "x");
}

TEST(DecoderTest, RefusesBrokenParts) {
  for (const char* json : {"1", "{}", R"({"type":"Strip","content":"ab","start":0,"stop":0})",
                           R"({"type":"Strip","content":" ","start":-1,"stop":0})",
                           R"({"type":"Replace"})", R"({"type":"Sequence","decoders":{}})"}) {
    EXPECT_THAT(Decoder::Create(Json::parse(json)), StatusIs(absl::StatusCode::kInvalidArgument))
        << json;
  }
  EXPECT_THAT(Decoder::Create(Json::parse(R"({"type":"WordPiece"})")),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("'WordPiece'")));
}

}  // namespace
}  // namespace ccoe::tokenizer
