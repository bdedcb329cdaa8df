// SPDX-License-Identifier: Apache-2.0
// The rules shipped with the demo model, against its held-out questions:
// models/demo/eval/DOMAIN.jsonl.
#include <filesystem>
#include <sstream>
#include <string>

#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "runtime/routing/rules.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::routing {
namespace {

constexpr char kRules[] = "models/demo/routing.textproto";
constexpr char kQuestions[] = "models/demo/eval";

// The expert that a question goes to, "base" for none.
std::string ExpertOf(const Rules& rules, const std::string& question) {
  const auto match = rules.Classify(question, "");
  return match.has_value() && !match->expert.empty() ? match->expert.ToString() : "base";
}

TEST(DemoRulesTest, RouteQuestionsByWhatTheyAreAbout) {
  ASSERT_OK_AND_ASSIGN(const auto rules, Rules::Load(kRules));
  EXPECT_EQ(ExpertOf(*rules, "Python: def f(x): return x + 1. What is f(2)?"), "code");
  EXPECT_EQ(ExpertOf(*rules, "Table pets(name, age). SQL: the name of all pets."), "sql");
  EXPECT_EQ(ExpertOf(*rules, "Clause 1: The rent is due on day 3. When is the rent due?"), "law");
  EXPECT_EQ(ExpertOf(*rules, "Guideline Elm: for fever give tea. The patient has fever."),
            "medical");
  EXPECT_EQ(ExpertOf(*rules, "What is 3 + 4?"), "math");
  EXPECT_EQ(ExpertOf(*rules, "Tom has 4 pens and buys 2 more. How many pens does Tom have?"),
            "math");
  EXPECT_EQ(ExpertOf(*rules, "What is the capital of France?"), "base");
  EXPECT_EQ(ExpertOf(*rules, "What happened on 2026-11-22?"), "base");
  EXPECT_EQ(ExpertOf(*rules, "How many legs has a dog?"), "base");
}

TEST(DemoRulesTest, RouteEveryHeldOutQuestionToItsDomain) {
  ASSERT_OK_AND_ASSIGN(const auto rules, Rules::Load(kRules));
  std::error_code error;
  for (const auto& file : std::filesystem::directory_iterator(kQuestions, error)) {
    if (file.path().extension() != ".jsonl") continue;
    const std::string domain = file.path().stem();
    const std::string expected = domain == "general" ? "base" : domain;
    ASSERT_OK_AND_ASSIGN(const std::string text, ReadFile(file.path(), 64 << 20));
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
      ASSERT_TRUE(json.is_object() && json.contains("question")) << file.path() << ": " << line;
      const std::string question = json["question"];
      EXPECT_EQ(ExpertOf(*rules, question), expected) << question;
    }
  }
}

}  // namespace
}  // namespace ccoe::routing
