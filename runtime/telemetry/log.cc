// SPDX-License-Identifier: Apache-2.0
#include "runtime/telemetry/log.h"

#include <glog/logging.h>

#include <algorithm>
#include <iomanip>
#include <ostream>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace ccoe::telemetry {
namespace {

constexpr size_t kMaxValueBytes = 256;

bool IsPlain(char c) {
  return absl::ascii_isalnum(c) || absl::string_view("._:@/+-").find(c) != absl::string_view::npos;
}

void WritePrefix(std::ostream& out, const google::LogMessageInfo& line, void*) {
  const auto two = [&](int value) -> std::ostream& { return out << std::setw(2) << value; };
  out << std::setfill('0') << std::setw(4) << 1900 + line.time.year() << '-';
  two(1 + line.time.month()) << '-';
  two(line.time.day()) << 'T';
  two(line.time.hour()) << ':';
  two(line.time.min()) << ':';
  two(line.time.sec()) << '.' << std::setw(6) << line.time.usec() << "Z " << line.severity << ' '
                       << line.filename << ':' << line.line_number;
}

}  // namespace

absl::StatusOr<LogLevel> ParseLogLevel(absl::string_view text) {
  if (text == "debug") return LogLevel::kDebug;
  if (text == "info") return LogLevel::kInfo;
  if (text == "warning") return LogLevel::kWarning;
  if (text == "error") return LogLevel::kError;
  return absl::InvalidArgumentError(
      absl::StrCat("log level: expected debug, info, warning or error, found \"",
                   absl::CEscape(text.substr(0, kMaxValueBytes)), "\""));
}

void InitLogging(absl::string_view program, LogLevel level) {
  FLAGS_logtostderr = true;
  FLAGS_log_utc_time = true;
  FLAGS_minloglevel = level == LogLevel::kError     ? google::GLOG_ERROR
                      : level == LogLevel::kWarning ? google::GLOG_WARNING
                                                    : google::GLOG_INFO;
  FLAGS_v = level == LogLevel::kDebug ? 1 : 0;
  if (google::IsGoogleLoggingInitialized()) return;
  // glog keeps the pointer.
  static const std::string* const name = new std::string(program);
  google::InitGoogleLogging(name->c_str(), WritePrefix);
}

std::string Field(absl::string_view key, absl::string_view value) {
  const absl::string_view shown = value.substr(0, kMaxValueBytes);
  const absl::string_view more = shown.size() < value.size() ? "..." : "";
  if (!shown.empty() && std::all_of(shown.begin(), shown.end(), IsPlain)) {
    return absl::StrCat(" ", key, "=", shown, more);
  }
  return absl::StrCat(" ", key, "=\"", absl::CEscape(shown), more, "\"");
}

std::string Field(absl::string_view key, int64_t value) {
  return absl::StrCat(" ", key, "=", value);
}

}  // namespace ccoe::telemetry
