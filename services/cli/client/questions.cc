// SPDX-License-Identifier: Apache-2.0
#include "services/cli/client/questions.h"

#include <sqlite3.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/status_macros.h"

namespace ccoe::cli {
namespace {

// Virtual machine instructions, in thousands, that one query may take.
constexpr int kMaxKiloSteps = 10000;
constexpr size_t kMaxRows = 10000;

using Rows = std::vector<std::string>;

struct CloseDatabase {
  void operator()(sqlite3* database) const { sqlite3_close(database); }
};
using Database = std::unique_ptr<sqlite3, CloseDatabase>;

struct FinalizeStatement {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Statement = std::unique_ptr<sqlite3_stmt, FinalizeStatement>;

int CountStep(void* steps) { return ++*static_cast<int*>(steps) > kMaxKiloSteps ? 1 : 0; }

absl::StatusOr<Database> OpenWith(const std::string& setup) {
  sqlite3* raw = nullptr;
  const int opened = sqlite3_open(":memory:", &raw);
  Database database(raw);
  if (opened != SQLITE_OK) return absl::InternalError("sqlite: cannot open a database in memory");
  sqlite3_limit(raw, SQLITE_LIMIT_ATTACHED, 0);
  sqlite3_limit(raw, SQLITE_LIMIT_LENGTH, 1 << 20);
  if (sqlite3_exec(raw, setup.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) {
    return absl::InvalidArgumentError(absl::StrCat("setup: ", sqlite3_errmsg(raw)));
  }
  return database;
}

// A row as text in which values of different types or lengths cannot run into each other.
std::string RowText(sqlite3_stmt* statement) {
  std::string row;
  for (int c = 0; c < sqlite3_column_count(statement); ++c) {
    const unsigned char* text = sqlite3_column_text(statement, c);
    const int bytes = sqlite3_column_bytes(statement, c);
    absl::StrAppend(
        &row,
        text == nullptr
            ? "null"
            : absl::StrCat(bytes, ":", std::string(reinterpret_cast<const char*>(text), bytes)),
        "|");
  }
  return row;
}

absl::StatusOr<Rows> Query(sqlite3* database, const std::string& sql) {
  sqlite3_stmt* raw = nullptr;
  const int prepared =
      sqlite3_prepare_v2(database, sql.c_str(), static_cast<int>(sql.size()), &raw, nullptr);
  const Statement statement(raw);
  if (prepared != SQLITE_OK || raw == nullptr)
    return absl::InvalidArgumentError(sqlite3_errmsg(database));
  if (sqlite3_stmt_readonly(raw) == 0) return absl::InvalidArgumentError("the statement writes");
  int steps = 0;
  sqlite3_progress_handler(database, 1000, CountStep, &steps);
  Rows rows;
  int result = sqlite3_step(raw);
  for (; result == SQLITE_ROW && rows.size() < kMaxRows; result = sqlite3_step(raw))
    rows.push_back(RowText(raw));
  sqlite3_progress_handler(database, 0, nullptr, nullptr);
  if (result != SQLITE_DONE)
    return absl::InvalidArgumentError(absl::StrCat("query: ", sqlite3_errmsg(database)));
  return rows;
}

absl::StatusOr<bool> SameRows(const TestQuestion& question, const std::string& given) {
  CCOE_ASSIGN_OR_RETURN(const Database database, OpenWith(question.setup));
  CCOE_ASSIGN_OR_RETURN(Rows expected, Query(database.get(), question.answer));
  absl::StatusOr<Rows> found = Query(database.get(), given);
  if (!found.ok()) return false;
  if (!absl::StrContains(absl::AsciiStrToUpper(question.answer), "ORDER BY")) {
    std::sort(expected.begin(), expected.end());
    std::sort(found->begin(), found->end());
  }
  return expected == *found;
}

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

absl::StatusOr<bool> IsRight(const TestQuestion& question, const std::string& given) {
  if (question.check == CheckKind::kExact) {
    return absl::StripAsciiWhitespace(given) == absl::StripAsciiWhitespace(question.answer);
  }
  absl::StatusOr<bool> same = SameRows(question, given);
  if (!same.ok()) return Annotate(same.status(), absl::StrCat("question \"", question.id, "\""));
  return same;
}

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
