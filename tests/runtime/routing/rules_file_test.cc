// SPDX-License-Identifier: Apache-2.0
#include "runtime/routing/rules_file.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::routing {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

auto IsBad(const ::testing::Matcher<const std::string&>& message) {
  return StatusIs(absl::StatusCode::kInvalidArgument, message);
}

TEST(RulesFileTest, ReadsRulesInTheOrderTheyAreTried) {
  ASSERT_OK_AND_ASSIGN(const auto rules, ParseRulesFile(R"(
      # the last resort
      rules { name: "late" expert: "math" keyword: "sum" priority: -1 }
      rules { name: "first" expert: "law@2" pattern: "clause [0-9]+" case_sensitive: true }
      rules { name: "second" expert: "base" tenant: "acme" tenant: "other" }
      rules { name: "urgent" expert: "sql" keyword: "SQL" priority: 10 }
    )",
                                                        "r.textproto"));
  ASSERT_EQ(rules.size(), 4u);
  EXPECT_EQ(rules[0].name, "urgent");
  EXPECT_EQ(rules[1].name, "first");
  EXPECT_EQ(rules[2].name, "second");
  EXPECT_EQ(rules[3].name, "late");
  EXPECT_EQ(rules[1].expert, (ExpertRef{"law", 2}));
  EXPECT_TRUE(rules[1].case_sensitive);
  EXPECT_THAT(rules[1].patterns, ElementsAre("clause [0-9]+"));
  EXPECT_TRUE(rules[2].expert.empty());
  EXPECT_THAT(rules[2].tenants, ElementsAre("acme", "other"));
}

TEST(RulesFileTest, NamesLineAndColumnOfASyntaxError) {
  EXPECT_THAT(ParseRulesFile("rules {\n  name: math\n}\n", "r.textproto"),
              IsBad(HasSubstr("r.textproto:2:9: ")));
  EXPECT_THAT(ParseRulesFile("rules {\n  name: \"a\"\n", "r.textproto"),
              IsBad(HasSubstr("r.textproto:")));
}

TEST(RulesFileTest, NamesEveryUnknownField) {
  EXPECT_THAT(ParseRulesFile("rules {\n  nam: \"a\"\n  keywrd: \"b\"\n}\n", "r.textproto"),
              IsBad(AllOf(HasSubstr("r.textproto:2:"), HasSubstr("nam"),
                          HasSubstr("r.textproto:3:"), HasSubstr("keywrd"))));
}

TEST(RulesFileTest, ReportsAllMistakesWithTheirRuleAndLine) {
  EXPECT_THAT(ParseRulesFile(R"(rules {
  name: "parens"
  expert: "math"
  pattern: "a(b"
}
rules {
  name: "parens"
  expert: "no such name!"
}
rules {
  expert: "law"
  keyword: "  "
}
)",
                             "r.textproto"),
              IsBad(AllOf(HasSubstr("r.textproto:4:3: rule \"parens\": pattern \"a(b\": missing )"),
                          HasSubstr("r.textproto:7:3: rule \"parens\": has no condition"),
                          HasSubstr("r.textproto:7:3: rule \"parens\": name is taken by rule 1"),
                          HasSubstr("r.textproto:8:3: rule \"parens\": expert \"no such name!\""),
                          HasSubstr("r.textproto:10:1: rule 3: has no name"),
                          HasSubstr("r.textproto:12:3: rule 3: keyword \"  \": is empty"))));
}

TEST(RulesFileTest, ListsTwentyMistakesAndCountsTheRest) {
  std::string text;
  for (int i = 0; i < 30; ++i) {
    absl::StrAppend(&text, "rules { name: \"r", i, "\" expert: \"math\" }\n");
  }
  const absl::Status status = ParseRulesFile(text, "r.textproto").status();
  EXPECT_THAT(status, IsBad(HasSubstr("10 more errors")));
  EXPECT_EQ(std::vector<std::string>(absl::StrSplit(std::string(status.message()), '\n')).size(),
            21u);
}

TEST(RulesFileTest, RefusesAFileWithoutRules) {
  EXPECT_THAT(ParseRulesFile("", "r.textproto"), IsBad(HasSubstr("no rules")));
}

TEST(RulesFileTest, BoundsRulesConditionsAndLengths) {
  std::string many;
  for (int i = 0; i <= kMaxRules; ++i) {
    absl::StrAppend(&many, "rules { name: \"r", i, "\" expert: \"math\" keyword: \"k\" }\n");
  }
  EXPECT_THAT(ParseRulesFile(many, "r.textproto"),
              IsBad(AllOf(HasSubstr("expected at most 1024"), HasSubstr("found 1025"))));

  std::string wide = "rules { name: \"r\" expert: \"math\"";
  for (int i = 0; i <= kMaxConditionsPerRule; ++i) absl::StrAppend(&wide, " keyword: \"k\"");
  EXPECT_THAT(ParseRulesFile(wide + " }", "r.textproto"), IsBad(HasSubstr("found 257")));

  const std::string long_word(kMaxConditionBytes + 1, 'k');
  EXPECT_THAT(
      ParseRulesFile("rules { name: \"r\" expert: \"math\" keyword: \"" + long_word + "\" }",
                     "r.textproto"),
      IsBad(AllOf(HasSubstr("found 1025"), Not(HasSubstr(long_word)))));
  const std::string long_name(kMaxRuleNameBytes + 1, 'n');
  EXPECT_THAT(
      ParseRulesFile("rules { name: \"" + long_name + "\" expert: \"math\" keyword: \"k\" }",
                     "r.textproto"),
      IsBad(HasSubstr("found 65")));
  EXPECT_THAT(ParseRulesFile(std::string(kMaxRulesFileBytes + 1, ' '), "r.textproto"),
              IsBad(HasSubstr("bytes")));
}

TEST(RulesFileTest, RefusesAFileNestedAHundredThousandDeep) {
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "rules{";
  EXPECT_THAT(ParseRulesFile(deep, "r.textproto"),
              IsBad(AllOf(HasSubstr("r.textproto:1:"), HasSubstr("too deep"))));
}

TEST(RulesFileTest, RefusesAPatternThatWouldTakeTooMuchMemory) {
  EXPECT_THAT(
      ParseRulesFile(R"(rules { name: "r" expert: "math" pattern: "((a{100}){100}){100}" })",
                     "r.textproto"),
      IsBad(HasSubstr("rule \"r\": pattern")));
}

TEST(RulesFileTest, RefusesLookAroundAndBackReferences) {
  for (const char* pattern : {"(?=x)", "(a)\\\\1"}) {
    EXPECT_THAT(ParseRulesFile(absl::StrCat("rules { name: \"r\" expert: \"math\" pattern: \"",
                                            pattern, "\" }"),
                               "r.textproto"),
                IsBad(HasSubstr("rule \"r\": pattern")));
  }
}

TEST(RulesFileTest, RefusesInvalidUtf8) {
  EXPECT_THAT(
      ParseRulesFile(R"(rules { name: "r" expert: "math" keyword: "\xff\xfe" })", "r.textproto"),
      IsBad(HasSubstr("not valid UTF-8")));
}

TEST(RulesFileTest, PutsTheViewOfCaseIntoThePattern) {
  EXPECT_EQ(EffectivePattern("a|b", false), "(?i:a|b)");
  EXPECT_EQ(EffectivePattern("a|b", true), "(?:a|b)");
}

}  // namespace
}  // namespace ccoe::routing
