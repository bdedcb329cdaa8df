// SPDX-License-Identifier: Apache-2.0
// Reading hand-written files in protobuf's text format: every mistake is named with its place.
#ifndef CCOE_RUNTIME_BASE_TEXT_FILE_H_
#define CCOE_RUNTIME_BASE_TEXT_FILE_H_

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace ccoe {

// The mistakes found so far in one file; protobuf's parser reports its own here too.
class FileMistakes final : public google::protobuf::io::ErrorCollector {
 public:
  // After so many the rest is counted, not listed.
  static constexpr int kMaxListed = 20;

  explicit FileMistakes(absl::string_view file) : file_(file) {}

  // Lines and columns count from 0; line -1: no place known.
  void Add(int line, int column, absl::string_view what);

  void AddError(int line, google::protobuf::io::ColumnNumber column,
                const std::string& message) override {
    Add(line, column, message);
  }
  // The parser warns of unknown fields only (and reads on, so that all are found).
  void AddWarning(int line, google::protobuf::io::ColumnNumber column,
                  const std::string& message) override {
    Add(line, column, message);
  }

  // INVALID_ARGUMENT lists them, one a line, as "FILE:LINE:COLUMN: what"; OK where there are none.
  absl::Status ToStatus() const;

 private:
  const std::string file_;
  int count_ = 0;
  std::vector<std::string> lines_;
};

// Reads `text`, at most `max_bytes` long and with blocks at most kMaxTextFileDepth deep, into
// `message`; `places` learns where each field stands. False after a syntax error or beyond a bound,
// when the rest of the file means nothing. Unknown fields are mistakes too.
inline constexpr int kMaxTextFileDepth = 32;
bool ParseTextFile(absl::string_view text, int64_t max_bytes, google::protobuf::Message* message,
                   google::protobuf::TextFormat::ParseInfoTree* places, FileMistakes* mistakes);

}  // namespace ccoe

#endif  // CCOE_RUNTIME_BASE_TEXT_FILE_H_
