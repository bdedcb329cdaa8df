// Files of test questions: DOMAIN.jsonl in a folder.
#ifndef CCOE_SERVICES_CLI_TEST_QUESTIONS_H_
#define CCOE_SERVICES_CLI_TEST_QUESTIONS_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "services/cli/answer_check.h"

namespace ccoe::cli {

// Lines {"id", "domain", "question", "answer", "check": "exact" | "sql", "setup"}. Errors name
// `where`, the line and the field.
absl::StatusOr<std::vector<TestQuestion>> ParseTestQuestions(absl::string_view content,
                                                             absl::string_view where);

// All *.jsonl of a folder, by the file's stem, in the files' order; at most `limit` a file (0:
// all).
absl::StatusOr<std::map<std::string, std::vector<TestQuestion>>> ReadTestQuestions(
    const std::string& folder, size_t limit);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_TEST_QUESTIONS_H_
