// SPDX-License-Identifier: Apache-2.0
#include "services/cli/client/questions.h"

#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/command_line.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

TestQuestion SqlQuestion(const std::string& answer) {
  TestQuestion question;
  question.id = "q";
  question.check = CheckKind::kSql;
  question.setup =
      "CREATE TABLE t (name TEXT, age INT); INSERT INTO t VALUES ('a', 3), ('b', 5), ('c', 5);";
  question.answer = answer;
  return question;
}

bool Right(const TestQuestion& question, const std::string& given) {
  const absl::StatusOr<bool> right = IsRight(question, given);
  EXPECT_OK(right);
  return right.ok() && *right;
}

TEST(IsRightTest, ComparesTextsWithoutTheWhiteSpaceAroundThem) {
  TestQuestion question;
  question.answer = "42";
  EXPECT_TRUE(Right(question, " 42\n"));
  EXPECT_FALSE(Right(question, "4 2"));
  EXPECT_FALSE(Right(question, ""));
}

TEST(IsRightTest, AcceptsAnyQueryThatGivesTheSameRows) {
  const TestQuestion question = SqlQuestion("SELECT name FROM t WHERE age = 5");
  EXPECT_TRUE(Right(question, "select name from t where age > 4 order by name desc"));
  EXPECT_FALSE(Right(question, "SELECT name FROM t"));
  EXPECT_FALSE(Right(question, "SELECT age FROM t WHERE age = 5"));
}

TEST(IsRightTest, HoldsTheOrderWhereTheReferenceStatesOne) {
  const TestQuestion question = SqlQuestion("SELECT name FROM t ORDER BY name");
  EXPECT_TRUE(Right(question, "SELECT name FROM t ORDER BY name ASC"));
  EXPECT_FALSE(Right(question, "SELECT name FROM t ORDER BY name DESC"));
}

TEST(IsRightTest, CountsHostileAnswersAsWrongAndEnds) {
  const TestQuestion question = SqlQuestion("SELECT name FROM t");
  EXPECT_FALSE(Right(question, "nonsense"));
  EXPECT_FALSE(Right(question, ""));
  EXPECT_FALSE(Right(question, "DROP TABLE t"));
  EXPECT_FALSE(Right(question, "ATTACH DATABASE '/tmp/x' AS x"));
  EXPECT_FALSE(Right(
      question,
      "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT sum(x) FROM c"));
}

TEST(IsRightTest, ReportsABrokenQuestion) {
  TestQuestion question = SqlQuestion("SELECT nothing FROM nowhere");
  EXPECT_THAT(IsRight(question, "SELECT 1"),
              testing::StatusIs(absl::StatusCode::kInvalidArgument,
                                ::testing::HasSubstr("question \"q\"")));
}

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
