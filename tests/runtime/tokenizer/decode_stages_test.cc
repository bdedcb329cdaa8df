#include "runtime/tokenizer/decode_stages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ccoe::tokenizer {
namespace {

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

}  // namespace
}  // namespace ccoe::tokenizer
