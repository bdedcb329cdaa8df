#include "runtime/base/text_file.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "ccoe/v1/routing.pb.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(TextFileTest, KnowsWhereFieldsStand) {
  FileMistakes mistakes("f");
  google::protobuf::TextFormat::ParseInfoTree places;
  v1::Rule rule;
  ASSERT_TRUE(ParseTextFile("name: \"a\"\n  expert: \"b\"", &rule, &places, &mistakes));
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
  EXPECT_FALSE(ParseTextFile("name: \"a\"\nexpert: }", &rule, &places, &broken));
  EXPECT_THAT(broken.ToStatus(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("f:2:9:")));
  FileMistakes unknown("f");
  EXPECT_TRUE(ParseTextFile("nam: \"a\"", &rule, &places, &unknown));
  EXPECT_THAT(unknown.ToStatus(), StatusIs(absl::StatusCode::kInvalidArgument,
                                           AllOf(HasSubstr("f:1:"), HasSubstr("nam"))));
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
