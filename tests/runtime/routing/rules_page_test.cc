// SPDX-License-Identifier: Apache-2.0
// docs/routing.md shows rules; they must be ones.
#include <string>

#include "runtime/base/file.h"
#include "runtime/routing/rules.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::routing {
namespace {

// The ```textproto blocks of a page, joined.
std::string Examples(const std::string& page) {
  const std::string open = "```textproto\n";
  std::string text;
  for (size_t at = page.find(open); at != std::string::npos; at = page.find(open, at)) {
    at += open.size();
    const size_t end = page.find("```", at);
    text += page.substr(at, end - at);
    at = end;
  }
  return text;
}

TEST(RulesPageTest, ItsExamplesDoWhatItSays) {
  ASSERT_OK_AND_ASSIGN(const std::string page, ReadFile("docs/routing.md", 1 << 20));
  ASSERT_OK_AND_ASSIGN(const auto rules, Rules::Parse(Examples(page), "docs/routing.md"));
  EXPECT_EQ(rules->size(), 5u);
  EXPECT_EQ(rules->Classify("Write sql, please", "")->rule, "sql-words");
  EXPECT_EQ(rules->Classify("How many are 3 and 4?", "")->rule, "math-words");
  EXPECT_FALSE(rules->Classify("How many are left?", "").has_value());
  EXPECT_EQ(rules->Classify("def f(x): return x", "")->expert.ToString(), "code@1");
  EXPECT_TRUE(rules->Classify("SQL", "acme")->expert.empty());
  EXPECT_EQ(rules->Classify("See Section 4.2", "acme-legal")->rule, "acme-contracts");
}

}  // namespace
}  // namespace ccoe::routing
