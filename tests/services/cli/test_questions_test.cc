#include "services/cli/test_questions.h"

#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/command_line.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

constexpr char kLine[] =
    R"({"id":"m1","domain":"math","question":"1 + 1","answer":"2","check":"exact"})";

TEST(ParseTestQuestionsTest, ReadsBothKindsOfCheck) {
  const std::string sql =
      R"json({"id":"s1","domain":"sql","question":"q","answer":"SELECT 1","check":"sql","setup":"CREATE TABLE t (a)"})json";
  ASSERT_OK_AND_ASSIGN(const auto questions,
                       ParseTestQuestions(std::string(kLine) + "\n" + sql + "\n", "f"));
  ASSERT_EQ(questions.size(), 2u);
  EXPECT_EQ(questions[0].check, CheckKind::kExact);
  EXPECT_EQ(questions[1].check, CheckKind::kSql);
  EXPECT_EQ(questions[1].setup, "CREATE TABLE t (a)");
}

TEST(ParseTestQuestionsTest, SaysLineAndField) {
  EXPECT_THAT(ParseTestQuestions("\n{}", "f"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("f:2: field \"id\"")));
  EXPECT_THAT(ParseTestQuestions("7", "f"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("object")));
  EXPECT_THAT(ParseTestQuestions(
                  R"({"id":"a","domain":"b","question":"c","answer":"d","check":"guess"})", "f"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found \"guess\"")));
}

TEST(ReadTestQuestionsTest, ReadsAFolderByDomainAndHoldsTheLimit) {
  const std::string folder = testing::TempPath("questions");
  std::filesystem::create_directories(folder);
  testing::WriteTemp("questions/math.jsonl", std::string(kLine) + "\n" + kLine + "\n");
  testing::WriteTemp("questions/notes.txt", "not a question");
  ASSERT_OK_AND_ASSIGN(const auto all, ReadTestQuestions(folder, 0));
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all.at("math").size(), 2u);
  ASSERT_OK_AND_ASSIGN(const auto one, ReadTestQuestions(folder, 1));
  EXPECT_EQ(one.at("math").size(), 1u);
  EXPECT_THAT(ReadTestQuestions(folder + "/none", 0),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none")));
}

}  // namespace
}  // namespace ccoe::cli
