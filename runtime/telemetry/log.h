// SPDX-License-Identifier: Apache-2.0
// Logging: one line per event, on stderr. Never the text of prompts or answers.
#ifndef CCOE_RUNTIME_TELEMETRY_LOG_H_
#define CCOE_RUNTIME_TELEMETRY_LOG_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ccoe::telemetry {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// "debug", "info", "warning" or "error". INVALID_ARGUMENT lists them.
absl::StatusOr<LogLevel> ParseLogLevel(absl::string_view text);

// Sets glog up for the process: LOG(...) from `level` on goes to stderr as
// "2026-01-31T12:00:00.123456Z INFO file.cc:12 message", in UTC; kDebug also shows VLOG(1).
// `program` names it for glog. A second call only changes the level.
void InitLogging(absl::string_view program, LogLevel level);

// " key=value" to append to a line: LOG(INFO) << "generate finished" << Field("request", id). The
// value is cut at 256 bytes, and quoted and escaped where it holds anything but letters, digits and
// ._:@/+-, so that what a client sends cannot break a line.
std::string Field(absl::string_view key, absl::string_view value);
std::string Field(absl::string_view key, int64_t value);

}  // namespace ccoe::telemetry

#endif  // CCOE_RUNTIME_TELEMETRY_LOG_H_
