// SPDX-License-Identifier: Apache-2.0
#include "runtime/base/text_file.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "ccoe/v1/routing.pb.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe {
namespace {

constexpr int64_t kMaxBytes = 1 << 20;

using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(TextFileTest, KnowsWhereFieldsStand) {
  FileMistakes mistakes("f");
  google::protobuf::TextFormat::ParseInfoTree places;
  v1::Rule rule;
  ASSERT_TRUE(ParseTextFile("name: \"a\"\n  expert: \"b\"", kMaxBytes, &rule, &places, &mistakes));
  EXPECT_OK(mistakes.ToStatus());
  EXPECT_EQ(rule.expert(), "b");
  const auto place = places.GetLocation(v1::Rule::descriptor()->FindFieldByName("expert"), -1);
  EXPECT_EQ(place.line, 1);
  EXPECT_EQ(place.column, 2);
}

TEST(TextFileTest, NamesLineAndColumnOfSyntaxErrorsAndUnknownFields) {
  google::protobuf::TextFormat::ParseInfoTree places;
  v1::Rule rule;
  FileMistakes broken("f");
  EXPECT_FALSE(ParseTextFile("name: \"a\"\nexpert: }", kMaxBytes, &rule, &places, &broken));
  EXPECT_THAT(broken.ToStatus(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("f:2:9:")));
  FileMistakes unknown("f");
  EXPECT_TRUE(ParseTextFile("nam: \"a\"", kMaxBytes, &rule, &places, &unknown));
  EXPECT_THAT(unknown.ToStatus(), StatusIs(absl::StatusCode::kInvalidArgument,
                                           AllOf(HasSubstr("f:1:"), HasSubstr("nam"))));
}

TEST(TextFileTest, RefusesWhatIsTooLongBeforeItIsParsed) {
  google::protobuf::TextFormat::ParseInfoTree places;
  v1::Rule rule;
  FileMistakes mistakes("f");
  EXPECT_FALSE(ParseTextFile("name: \"abc\"", 10, &rule, &places, &mistakes));
  EXPECT_THAT(mistakes.ToStatus(), StatusIs(absl::StatusCode::kInvalidArgument,
                                            HasSubstr("f: expected at most 10 bytes, found 11")));
}

TEST(TextFileTest, RefusesNestingOfEveryKindWithItsPlace) {
  // Known and unknown messages, lists, extensions: each goes down by a path of its own.
  for (const std::string unit :
       {"rules{", "rules <", "x {", "x: [{", "rules: [{", "[a.b] {", "x<"}) {
    std::string text = "rules {\n";
    for (int i = 0; i < 100'000; ++i) text += unit;
    google::protobuf::TextFormat::ParseInfoTree places;
    v1::RoutingRules rules;
    FileMistakes mistakes("f");
    EXPECT_FALSE(ParseTextFile(text, kMaxBytes, &rules, &places, &mistakes)) << unit;
    EXPECT_THAT(mistakes.ToStatus(),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("f:2:"), HasSubstr("too deep"), HasSubstr("32"))))
        << unit;
  }
  std::string list = "x: ";
  list.append(100'000, '[');
  google::protobuf::TextFormat::ParseInfoTree places;
  v1::RoutingRules rules;
  FileMistakes mistakes("f");
  EXPECT_FALSE(ParseTextFile(list, kMaxBytes, &rules, &places, &mistakes));
  EXPECT_THAT(mistakes.ToStatus(), StatusIs(absl::StatusCode::kInvalidArgument,
                                            AllOf(HasSubstr("f:1:"), HasSubstr("too deep"))));
}

TEST(TextFileTest, ListsSomeMistakesAndCountsTheRest) {
  FileMistakes mistakes("f");
  for (int i = 0; i < FileMistakes::kMaxListed + 5; ++i)
    mistakes.Add(-1, 0, absl::StrCat("m", i, "."));
  EXPECT_THAT(mistakes.ToStatus(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("f: m0."), HasSubstr("m19."), HasSubstr("f: 5 more errors"),
                             Not(HasSubstr("m20.")))));
}

}  // namespace
}  // namespace ccoe
