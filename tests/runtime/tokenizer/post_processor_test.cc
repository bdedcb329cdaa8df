// SPDX-License-Identifier: Apache-2.0
#include "runtime/tokenizer/post_processor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/testing/status_matchers.h"

namespace ccoe::tokenizer {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;

Json Template() {
  return Json::parse(
      R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},
      {"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"</s>","type_id":0}}],
      "special_tokens":{"<s>":{"id":"<s>","ids":[1],"tokens":["<s>"]},"</s>":{"id":"</s>","ids":[2,3],"tokens":["x","y"]}}})");
}

TEST(PostProcessorTest, PutsTheTemplatesTokensAroundTheText) {
  ASSERT_OK_AND_ASSIGN(const PostProcessor found, PostProcessor::Create(Template(), 10));
  EXPECT_THAT(found.prefix(), ElementsAre(1));
  EXPECT_THAT(found.suffix(), ElementsAre(2, 3));
}

TEST(PostProcessorTest, NestsTemplatesOfASequence) {
  const Json sequence = {{"type", "Sequence"},
                         {"processors", {{{"type", "ByteLevel"}}, Template(), Template()}}};
  ASSERT_OK_AND_ASSIGN(const PostProcessor found, PostProcessor::Create(sequence, 10));
  EXPECT_THAT(found.prefix(), ElementsAre(1, 1));
  ASSERT_OK_AND_ASSIGN(const PostProcessor none, PostProcessor::Create(Json(), 10));
  EXPECT_THAT(none.prefix(), ElementsAre());
}

TEST(PostProcessorTest, RefusesBrokenTemplates) {
  const auto code = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(PostProcessor::Create(Template(), 3), StatusIs(code, HasSubstr("[0, 3), found 3")));
  Json json = Template();
  json["single"].erase(1);
  EXPECT_THAT(PostProcessor::Create(json, 10), StatusIs(code, HasSubstr("one Sequence, found 0")));
  json = Template();
  json["special_tokens"].erase("<s>");
  EXPECT_THAT(PostProcessor::Create(json, 10), StatusIs(code, HasSubstr("'<s>'")));
  json = Template();
  json["single"] = "$A";
  EXPECT_THAT(PostProcessor::Create(json, 10), StatusIs(code));
  EXPECT_THAT(PostProcessor::Create({{"type", "BertProcessing"}}, 10),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("'BertProcessing'")));
}

}  // namespace
}  // namespace ccoe::tokenizer
