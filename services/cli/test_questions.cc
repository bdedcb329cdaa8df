#include "services/cli/test_questions.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/status_macros.h"

namespace ccoe::cli {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{1} << 28;

absl::StatusOr<std::string> Field(const nlohmann::json& line, const char* name,
                                  absl::string_view where, bool required) {
  if (!line.contains(name)) {
    if (!required) return std::string();
    return absl::InvalidArgumentError(absl::StrCat(where, ": field \"", name, "\" is missing"));
  }
  if (!line[name].is_string())
    return absl::InvalidArgumentError(absl::StrCat(where, ": ", name, ": expected a string"));
  return line[name].get<std::string>();
}

absl::StatusOr<TestQuestion> ParseQuestion(absl::string_view text, absl::string_view where) {
  CCOE_ASSIGN_OR_RETURN(const nlohmann::json line, ParseJson(text, where));
  if (!line.is_object())
    return absl::InvalidArgumentError(absl::StrCat(where, ": expected a JSON object"));
  TestQuestion question;
  CCOE_ASSIGN_OR_RETURN(question.id, Field(line, "id", where, true));
  CCOE_ASSIGN_OR_RETURN(question.domain, Field(line, "domain", where, true));
  CCOE_ASSIGN_OR_RETURN(question.question, Field(line, "question", where, true));
  CCOE_ASSIGN_OR_RETURN(question.answer, Field(line, "answer", where, true));
  CCOE_ASSIGN_OR_RETURN(question.setup, Field(line, "setup", where, false));
  CCOE_ASSIGN_OR_RETURN(const std::string check, Field(line, "check", where, true));
  if (check != "exact" && check != "sql") {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": check: expected \"exact\" or \"sql\", found \"", check, "\""));
  }
  question.check = check == "sql" ? CheckKind::kSql : CheckKind::kExact;
  return question;
}

}  // namespace

absl::StatusOr<std::vector<TestQuestion>> ParseTestQuestions(absl::string_view content,
                                                             absl::string_view where) {
  std::vector<TestQuestion> questions;
  int64_t number = 0;
  for (absl::string_view line : absl::StrSplit(content, '\n')) {
    ++number;
    if (absl::StripAsciiWhitespace(line).empty()) continue;
    CCOE_ASSIGN_OR_RETURN(TestQuestion question,
                          ParseQuestion(line, absl::StrCat(where, ":", number)));
    questions.push_back(std::move(question));
  }
  return questions;
}

absl::StatusOr<std::map<std::string, std::vector<TestQuestion>>> ReadTestQuestions(
    const std::string& folder, size_t limit) {
  std::error_code error;
  std::filesystem::directory_iterator files(folder, error);
  if (error) return absl::NotFoundError(absl::StrCat(folder, ": ", error.message()));
  std::map<std::string, std::vector<TestQuestion>> all;
  for (const auto& file : files) {
    if (file.path().extension() != ".jsonl") continue;
    CCOE_ASSIGN_OR_RETURN(const std::string content, ReadFile(file.path().string(), kMaxFileBytes));
    CCOE_ASSIGN_OR_RETURN(std::vector<TestQuestion> questions,
                          ParseTestQuestions(content, file.path().string()));
    if (limit > 0 && questions.size() > limit) questions.resize(limit);
    all[file.path().stem().string()] = std::move(questions);
  }
  if (all.empty()) return absl::NotFoundError(absl::StrCat(folder, ": no *.jsonl file in it"));
  return all;
}

}  // namespace ccoe::cli
