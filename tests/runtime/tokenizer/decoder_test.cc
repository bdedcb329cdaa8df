#include "runtime/tokenizer/decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/testing/status_matchers.h"

namespace ccoe::tokenizer {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;
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
