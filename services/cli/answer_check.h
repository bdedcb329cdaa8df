// Whether a model's answer to a test question is right.
#ifndef CCOE_SERVICES_CLI_ANSWER_CHECK_H_
#define CCOE_SERVICES_CLI_ANSWER_CHECK_H_

#include <string>

#include "absl/status/statusor.h"

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

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_ANSWER_CHECK_H_
