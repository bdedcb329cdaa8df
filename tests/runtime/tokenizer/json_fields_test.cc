// SPDX-License-Identifier: Apache-2.0
#include "runtime/tokenizer/json_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/testing/status_matchers.h"

namespace ccoe::tokenizer {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(JsonFieldsTest, SaysWhereWhatAndFound) {
  const Json json = {{"a", 1}, {"b", "text"}, {"c", nullptr}, {"d", {1, 2}}, {"e", true}};
  EXPECT_THAT(StringField(json, "a", "here"),
              StatusIs(kInvalid, HasSubstr("here.a: expected a string, found number")));
  EXPECT_THAT(StringField(json, "c", "here"), StatusIs(kInvalid, HasSubstr("found nothing")));
  EXPECT_THAT(ArrayField(json, "b", "here"), StatusIs(kInvalid, HasSubstr("expected a list")));
  EXPECT_THAT(BoolField(json, "b", false, "here"), StatusIs(kInvalid, HasSubstr("a boolean")));
  EXPECT_THAT(IntField(json, "a", 0, "here"), StatusIs(kInvalid, HasSubstr("[0, 0], found 1")));
  EXPECT_THAT(IntField(Json{{"a", -1}}, "a", 5, "here"), StatusIs(kInvalid));
  EXPECT_THAT(ExpectObject(json["d"], "here"), StatusIs(kInvalid, HasSubstr("found array")));
}

TEST(JsonFieldsTest, GivesFallbacksForWhatIsMissingOrNull) {
  const Json json = {{"c", nullptr}, {"e", true}};
  ASSERT_OK_AND_ASSIGN(const bool missing, BoolField(json, "x", true, ""));
  EXPECT_TRUE(missing);
  ASSERT_OK_AND_ASSIGN(const std::string text, StringFieldOr(json, "c", "other", ""));
  EXPECT_EQ(text, "other");
  ASSERT_OK_AND_ASSIGN(const bool there, BoolField(json, "e", false, ""));
  EXPECT_TRUE(there);
}

TEST(JsonFieldsTest, RefusesFilesThatAreMissingLongOrCorrupt) {
  const std::string path = ::testing::TempDir() + "/fields.json";
  std::ofstream(path) << "{\"a\": ";
  EXPECT_THAT(ReadJsonFile(path, 100), StatusIs(kInvalid, HasSubstr("not valid JSON")));
  EXPECT_THAT(ReadJsonFile(path, 3), StatusIs(kInvalid, HasSubstr("at most 3 bytes, found 6")));
  EXPECT_THAT(ReadJsonFile(path + "x", 9), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(ReadFile(::testing::TempDir(), 9), StatusIs(kInvalid, HasSubstr("regular file")));
}

}  // namespace
}  // namespace ccoe::tokenizer
