// SPDX-License-Identifier: Apache-2.0
// Test questions: their files, and whether a model's answer to one is right.
#ifndef CCOE_SERVICES_CLI_CLIENT_QUESTIONS_H_
#define CCOE_SERVICES_CLI_CLIENT_QUESTIONS_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ccoe::cli {

enum class CheckKind : uint8_t {
  kExact,  // equal texts, white space around them aside
  kSql,    // both queries give the same rows; in any order unless the reference has ORDER BY
};

struct TestQuestion {
  std::string id;
  std::string domain;
  std::string question;
  std::string answer;
  CheckKind check = CheckKind::kExact;
  std::string setup;  // kSql: statements that make the tables
};

// A wrong answer is false, whatever it holds: `given` comes from a model, so SQL runs in a database
// of its own in memory, read-only, within a bound on its work. An error means that the question
// itself is broken (its setup or reference fails).
absl::StatusOr<bool> IsRight(const TestQuestion& question, const std::string& given);

// A file of test questions: lines {"id", "domain", "question", "answer", "check": "exact" | "sql",
// "setup"}. Errors name `where`, the line and the field.
absl::StatusOr<std::vector<TestQuestion>> ParseTestQuestions(absl::string_view content,
                                                             absl::string_view where);

// All *.jsonl of a folder, by the file's stem, in the files' order; at most `limit` a file (0:
// all).
absl::StatusOr<std::map<std::string, std::vector<TestQuestion>>> ReadTestQuestions(
    const std::string& folder, size_t limit);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_CLIENT_QUESTIONS_H_
