// SPDX-License-Identifier: Apache-2.0
#include "runtime/tokenizer/normalizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/testing/status_matchers.h"

namespace ccoe::tokenizer {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;
using Json = nlohmann::json;

std::string Apply(const std::string& json, const std::string& text) {
  const absl::StatusOr<Normalizer> normalizer = Normalizer::Create(Json::parse(json));
  EXPECT_OK(normalizer);
  const absl::StatusOr<std::string> out = normalizer->Apply(text);
  EXPECT_OK(out);
  return out.value_or("");
}

TEST(NormalizerTest, AppliesEachKind) {
  EXPECT_EQ(Apply("null", "a B"), "a B");
  EXPECT_EQ(Apply(R"({"type":"NFC"})", "e\u0301"), "é");
  EXPECT_EQ(Apply(R"({"type":"NFKD"})", "ﬁ"), "fi");
  EXPECT_EQ(Apply(R"({"type":"Lowercase"})", "AbÄ"), "abä");
  EXPECT_EQ(Apply(R"({"type":"Prepend","prepend":"▁"})", "x"), "▁x");
  EXPECT_EQ(Apply(R"({"type":"Prepend","prepend":"▁"})", ""), "");
  EXPECT_EQ(Apply(R"({"type":"Replace","pattern":{"Regex":" +"},"content":"_"})", "a  b c"),
            "a_b_c");
  EXPECT_EQ(Apply(R"({"type":"Strip","strip_left":true,"strip_right":false})", " a "), "a ");
}

TEST(NormalizerTest, AppliesASequenceInOrder) {
  EXPECT_EQ(Apply(R"({"type":"Sequence","normalizers":[{"type":"Prepend","prepend":" "},
            {"type":"Replace","pattern":{"String":" "},"content":"▁"}]})",
                  "a b"),
            "▁a▁b");
}

TEST(NormalizerTest, NamesWhatItDoesNotKnow) {
  EXPECT_THAT(Normalizer::Create(
                  Json::parse(R"({"type":"Sequence","normalizers":[{"type":"Precompiled"}]})")),
              StatusIs(absl::StatusCode::kUnimplemented,
                       HasSubstr("normalizer.normalizers[0]: normalizer type 'Precompiled'")));
}

TEST(NormalizerTest, RefusesBrokenParts) {
  for (const char* json : {"3", "{}", R"({"type":"Prepend"})", R"({"type":"Replace","content":""})",
                           R"({"type":"Strip","strip_left":1})", R"({"type":"Sequence"})"}) {
    EXPECT_THAT(Normalizer::Create(Json::parse(json)), StatusIs(absl::StatusCode::kInvalidArgument))
        << json;
  }
  Json nested = {{"type", "NFC"}};
  for (int i = 0; i < 50; ++i)
    nested = {{"type", "Sequence"}, {"normalizers", Json::array({nested})}};
  EXPECT_THAT(Normalizer::Create(nested),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("deeper")));
}

}  // namespace
}  // namespace ccoe::tokenizer
