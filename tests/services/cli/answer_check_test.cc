#include "services/cli/answer_check.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

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

}  // namespace
}  // namespace ccoe::cli
