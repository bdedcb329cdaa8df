// SPDX-License-Identifier: Apache-2.0
#include "runtime/routing/rules.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::routing {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::unique_ptr<const Rules> Parsed(absl::string_view text) {
  auto rules = Rules::Parse(text, "r.textproto");
  EXPECT_OK(rules);
  return rules.ok() ? *std::move(rules) : Rules::None();
}

// The rule with the one keyword, and whether it matches a text.
bool HasKeyword(absl::string_view keyword, absl::string_view text) {
  const auto rules =
      Parsed(absl::StrCat("rules { name: \"r\" expert: \"math\" keyword: \"", keyword, "\" }"));
  return rules->Classify(text, "").has_value();
}

TEST(RulesTest, WithoutRulesNothingMatches) {
  EXPECT_EQ(Rules::None()->Classify("how many", ""), std::nullopt);
  EXPECT_EQ(Rules::None()->size(), 0u);
}

TEST(RulesTest, SaysWhichRuleMatchedAndWhy) {
  const auto rules = Parsed(R"(
      rules { name: "math-words" expert: "math@2" keyword: "sum of" keyword: "how many" }
      rules { name: "code" expert: "code" pattern: "def \\w+\\(" })");
  const auto words = rules->Classify("How many apples are left?", "");
  ASSERT_TRUE(words.has_value());
  EXPECT_EQ(words->rule, "math-words");
  EXPECT_EQ(words->expert, (ExpertRef{"math", 2}));
  EXPECT_EQ(words->explanation, "rule \"math-words\": keyword \"how many\"");
  const auto code = rules->Classify("def f(x): return x", "");
  ASSERT_TRUE(code.has_value());
  EXPECT_EQ(code->explanation, "rule \"code\": pattern \"def \\w+\\(\"");
  EXPECT_EQ(rules->Classify("What is the capital of France?", ""), std::nullopt);
}

TEST(RulesTest, TheFirstMatchByPriorityThenByOrderDecides) {
  const auto rules = Parsed(R"(
      rules { name: "a" expert: "x" keyword: "word" }
      rules { name: "b" expert: "y" keyword: "word" }
      rules { name: "c" expert: "z" keyword: "word" keyword: "urgent" priority: 1 tenant: "acme" })");
  EXPECT_EQ(rules->Classify("a word", "")->rule, "a");
  EXPECT_EQ(rules->Classify("a word", "acme")->rule, "c");
}

TEST(RulesTest, EveryKindOfConditionThatIsGivenMustHold) {
  const auto rules = Parsed(R"(
      rules { name: "r" expert: "math" tenant: "acme" keyword: "how many" keyword: "sum" pattern: "\\d" })");
  EXPECT_EQ(rules->Classify("how many of 3", "other"), std::nullopt);
  EXPECT_EQ(rules->Classify("how many", "acme"), std::nullopt);
  EXPECT_EQ(rules->Classify("3 of them", "acme"), std::nullopt);
  EXPECT_EQ(rules->Classify("the sum of 3 and 4", "acme")->explanation,
            "rule \"r\": tenant \"acme\", keyword \"sum\", pattern \"\\d\"");
}

TEST(RulesTest, KeywordsStandAtWordBoundariesInAnyCase) {
  EXPECT_TRUE(HasKeyword("SQL", "write sql: show all"));
  EXPECT_TRUE(HasKeyword("sql", "(SQL)"));
  EXPECT_TRUE(HasKeyword("sql", "SQL"));
  EXPECT_FALSE(HasKeyword("sql", "mysql"));
  EXPECT_FALSE(HasKeyword("sql", "sql2"));
  EXPECT_FALSE(HasKeyword("sql", "sql_table"));
  EXPECT_TRUE(HasKeyword("how many", "How  many\nare there"));
  EXPECT_FALSE(HasKeyword("how many", "show many"));
  EXPECT_FALSE(HasKeyword("how many", "how, many"));
}

TEST(RulesTest, KeywordsMayHoldWhatMeansSomethingInExpressions) {
  EXPECT_TRUE(HasKeyword("C++", "in C++ or C"));
  EXPECT_TRUE(HasKeyword("C++", "C++11"));
  EXPECT_FALSE(HasKeyword("C++", "Ccc"));
  EXPECT_TRUE(HasKeyword("def f(", "def f(x)"));
  EXPECT_TRUE(HasKeyword("what?", "so what?"));
  EXPECT_TRUE(HasKeyword("a.b", "a.b"));
  EXPECT_FALSE(HasKeyword("a.b", "axb"));
}

TEST(RulesTest, KeywordsOfOtherScriptsAreWholeCharactersAndKeepTheirCase) {
  EXPECT_TRUE(HasKeyword("größe", "Die GRößE ist 3"));  // ASCII letters in any case
  EXPECT_FALSE(HasKeyword("größe", "Die GRÖßE ist 3"));
  EXPECT_FALSE(HasKeyword("gr", "größe"));  // the o-umlaut continues the word
  EXPECT_FALSE(HasKeyword("e", "cafée"));
  EXPECT_TRUE(HasKeyword("数学", "请做 数学 题"));
}

TEST(RulesTest, PatternsIgnoreCaseUnlessToldOtherwise) {
  const auto rules = Parsed(R"(
      rules { name: "strict" expert: "x" pattern: "SELECT" case_sensitive: true }
      rules { name: "loose" expert: "y" pattern: "SELECT" })");
  EXPECT_EQ(rules->Classify("SELECT 1", "")->rule, "strict");
  EXPECT_EQ(rules->Classify("select 1", "")->rule, "loose");
}

TEST(RulesTest, AnAlternativeInAPatternStaysInside) {
  const auto rules = Parsed(R"(rules { name: "r" expert: "x" pattern: "^a|b$" })");
  EXPECT_TRUE(rules->Classify("abc", "").has_value());
  EXPECT_TRUE(rules->Classify("cab", "").has_value());
  EXPECT_FALSE(rules->Classify("cac", "").has_value());
}

TEST(RulesTest, LooksAtTheFirst64KiBOnly) {
  const std::string far = std::string(kMaxClassifiedBytes, ' ') + "sql";
  EXPECT_FALSE(HasKeyword("sql", far));
  const std::string near = std::string(kMaxClassifiedBytes - 10, ' ') + "sql and more";
  EXPECT_TRUE(HasKeyword("sql", near));
}

TEST(RulesTest, TextThatIsNoUtf8DoesNoHarm) {
  EXPECT_TRUE(HasKeyword("sql", "\xff sql \xfe"));
  const auto rules = Parsed(R"(rules { name: "r" expert: "x" pattern: "a.c" })");
  EXPECT_FALSE(rules->Classify("a\xff\xff", "").has_value());
  EXPECT_FALSE(rules->Classify("", "").has_value());
}

TEST(RulesTest, PatternsThatBacktrackElsewhereAreHarmless) {
  std::string text;
  for (int i = 0; i < 20; ++i) {
    absl::StrAppend(&text, "rules { name: \"r", i,
                    "\" expert: \"x\" pattern: \"(a+)+$\" pattern: \"(a|aa)*b[0-9]{", i + 1,
                    "}c\" }\n");
  }
  const auto rules = Parsed(text);
  EXPECT_FALSE(rules->Classify(std::string(kMaxClassifiedBytes - 1, 'a') + "!", "").has_value());
}

TEST(RulesTest, ManyRulesAreOneSet) {
  std::string text;
  for (int i = 0; i < 1000; ++i) {
    absl::StrAppend(&text, "rules { name: \"r", i, "\" expert: \"x\" keyword: \"word", i,
                    "\" keyword: \"other", i, "\" }\n");
  }
  const auto rules = Parsed(text);
  EXPECT_EQ(rules->size(), 1000u);
  EXPECT_EQ(rules->Classify("this is other999 here", "")->rule, "r999");
  EXPECT_FALSE(rules->Classify("this is other1000 here", "").has_value());
}

TEST(RulesTest, ListsTheExpertsItCanChoose) {
  const auto rules = Parsed(R"(
      rules { name: "a" expert: "sql" keyword: "x" } rules { name: "b" expert: "law@2" keyword: "y" }
      rules { name: "c" expert: "sql" keyword: "z" } rules { name: "d" expert: "base" keyword: "w" })");
  EXPECT_THAT(rules->Experts(), ElementsAre(ExpertRef{"law", 2}, ExpertRef{"sql", 0}));
}

TEST(RulesTest, ARuleCanHoldTextBackForTheBase) {
  const auto rules = Parsed(R"(rules { name: "small-talk" expert: "base" keyword: "hello" })");
  const auto match = rules->Classify("Hello!", "");
  ASSERT_TRUE(match.has_value());
  EXPECT_TRUE(match->expert.empty());
}

TEST(RulesTest, NamesTheFileThatCannotBeReadOrHasMistakes) {
  EXPECT_THAT(Rules::Load("/no/such/rules.textproto"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/no/such/rules.textproto")));
  EXPECT_THAT(Rules::Parse("rules { name: \"r\" }", "r.textproto"),
              StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("r.textproto:1:1"))));
}

}  // namespace
}  // namespace ccoe::routing
