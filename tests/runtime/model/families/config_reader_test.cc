// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/families/config_reader.h"

#include <string>

#include "gmock/gmock.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::StatusIs;

class ConfigReaderTest : public ::testing::Test {
 protected:
  const nlohmann::json object_ = nlohmann::json::parse(R"({
      "int": 7, "big": 18446744073709551615, "negative": -3, "half": 0.5, "zero": 0, "yes": true, "text": "abc",
      "null": null, "ids": [1, 2], "strings": ["a", "b"], "mixed": ["a", 1], "object": {"inner": "x"}})");
  const ConfigReader reader_{object_};
};

TEST_F(ConfigReaderTest, ReadsValuesOfTheRightType) {
  EXPECT_EQ(*reader_.Int("int", 0, 10), 7);
  EXPECT_EQ(*reader_.PositiveOr("half", 1.0), 0.5);
  EXPECT_EQ(*reader_.PositiveOr("int", 1.0), 7.0);
  EXPECT_EQ(*reader_.Positive("half"), 0.5);
  EXPECT_EQ(*reader_.NonNegativeOr("zero", 1.0), 0.0);
  EXPECT_THAT(*reader_.Ints("ids", 1, 2), ElementsAre(1, 2));
  EXPECT_EQ(*reader_.BoolOr("yes", false), true);
  EXPECT_EQ(*reader_.StringOr("text", ""), "abc");
  EXPECT_THAT(*reader_.TokenIds("ids", 3), ElementsAre(1, 2));
  EXPECT_THAT(*reader_.TokenIds("int", 8), ElementsAre(7));
  EXPECT_THAT(*reader_.Strings("strings"), ElementsAre("a", "b"));
  EXPECT_TRUE(reader_.Object("object")->has_value());
}

TEST_F(ConfigReaderTest, AbsentAndNullTakeTheFallback) {
  for (const char* key : {"none", "null"}) {
    EXPECT_FALSE(reader_.Has(key));
    EXPECT_EQ(*reader_.IntOr(key, 0, 10, 4), 4);
    EXPECT_EQ(*reader_.PositiveOr(key, 2.0), 2.0);
    EXPECT_EQ(*reader_.NonNegativeOr(key, 2.0), 2.0);
    EXPECT_TRUE(reader_.Ints(key, 0, 10)->empty());
    EXPECT_THAT(reader_.Positive(key),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found nothing")));
    EXPECT_EQ(*reader_.BoolOr(key, true), true);
    EXPECT_EQ(*reader_.StringOr(key, "d"), "d");
    EXPECT_TRUE(reader_.TokenIds(key, 10)->empty());
    EXPECT_TRUE(reader_.Strings(key)->empty());
    EXPECT_FALSE(reader_.Object(key)->has_value());
    EXPECT_THAT(reader_.Int(key, 0, 10),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found nothing")));
  }
  EXPECT_TRUE(reader_.IsNull("null"));
  EXPECT_FALSE(reader_.IsNull("none"));
}

TEST_F(ConfigReaderTest, WrongTypesAndRangesNameKeyExpectedAndFound) {
  const auto bad = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(
      reader_.Int("int", 8, 10),
      StatusIs(bad, AllOf(HasSubstr("key int"), HasSubstr("8 to 10"), HasSubstr("found 7"))));
  EXPECT_THAT(reader_.Int("big", 0, INT64_MAX), StatusIs(bad, HasSubstr("18446744073709551615")));
  EXPECT_THAT(reader_.Int("half", 0, 10), StatusIs(bad, HasSubstr("0.5")));
  EXPECT_THAT(reader_.Int("text", 0, 10), StatusIs(bad, HasSubstr("\"abc\"")));
  EXPECT_THAT(reader_.PositiveOr("zero", 1.0), StatusIs(bad, HasSubstr("> 0")));
  EXPECT_THAT(reader_.PositiveOr("text", 1.0), StatusIs(bad, HasSubstr("> 0")));
  EXPECT_THAT(reader_.NonNegativeOr("negative", 1.0), StatusIs(bad, HasSubstr(">= 0")));
  EXPECT_THAT(reader_.Ints("ids", 2, 2), StatusIs(bad, HasSubstr("2 to 2")));
  EXPECT_THAT(reader_.Ints("mixed", 0, 2), StatusIs(bad, HasSubstr("list of whole numbers")));
  EXPECT_THAT(reader_.Ints("int", 0, 9), StatusIs(bad, HasSubstr("list of whole numbers")));
  EXPECT_THAT(reader_.BoolOr("int", true), StatusIs(bad, HasSubstr("true or false")));
  EXPECT_THAT(reader_.StringOr("int", ""), StatusIs(bad, HasSubstr("a string")));
  EXPECT_THAT(reader_.TokenIds("ids", 2), StatusIs(bad, HasSubstr("0 to 1")));
  EXPECT_THAT(reader_.TokenIds("negative", 9), StatusIs(bad, HasSubstr("found -3")));
  EXPECT_THAT(reader_.TokenIds("text", 9), StatusIs(bad, HasSubstr("token ids")));
  EXPECT_THAT(reader_.Strings("mixed"), StatusIs(bad, HasSubstr("list of strings")));
  EXPECT_THAT(reader_.Strings("text"), StatusIs(bad, HasSubstr("list of strings")));
  EXPECT_THAT(reader_.Object("int"), StatusIs(bad, HasSubstr("an object")));
}

TEST_F(ConfigReaderTest, WhatIsNotSupportedReadsTheSame) {
  EXPECT_EQ(reader_.Unsupported("int", "8").message(), reader_.Wrong("int", "8").message());
  EXPECT_EQ(reader_.Unsupported("int", "8").code(), absl::StatusCode::kUnimplemented);
}

TEST_F(ConfigReaderTest, KeysOfAnInnerObjectCarryItsName) {
  EXPECT_THAT((*reader_.Object("object"))->Int("inner", 0, 1),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("key object.inner")));
}

TEST_F(ConfigReaderTest, AHugeValueIsShownCutShort) {
  const nlohmann::json object = {{"long", std::string(100000, 'x')}};
  const absl::Status status = ConfigReader(object).Int("long", 0, 1).status();
  EXPECT_LT(status.message().size(), 300u);
}

}  // namespace
}  // namespace ccoe::model
