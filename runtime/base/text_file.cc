// SPDX-License-Identifier: Apache-2.0
#include "runtime/base/text_file.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace ccoe {

void FileMistakes::Add(int line, int column, absl::string_view what) {
  if (++count_ > kMaxListed) return;
  lines_.push_back(line < 0 ? absl::StrCat(file_, ": ", what)
                            : absl::StrCat(file_, ":", line + 1, ":", column + 1, ": ", what));
}

absl::Status FileMistakes::ToStatus() const {
  if (count_ == 0) return absl::OkStatus();
  std::string message = absl::StrJoin(lines_, "\n");
  if (count_ > kMaxListed) {
    absl::StrAppend(&message, "\n", file_, ": ", count_ - kMaxListed, " more errors");
  }
  return absl::InvalidArgumentError(message);
}

bool ParseTextFile(absl::string_view text, int64_t max_bytes, google::protobuf::Message* message,
                   google::protobuf::TextFormat::ParseInfoTree* places, FileMistakes* mistakes) {
  if (static_cast<int64_t>(text.size()) > max_bytes) {
    mistakes->Add(-1, 0,
                  absl::StrCat("expected at most ", max_bytes, " bytes, found ", text.size()));
    return false;
  }
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(mistakes);
  parser.WriteLocationsTo(places);
  parser.AllowUnknownField(true);
  // The parser calls itself for each level, of unknown fields and lists too: without a bound a file
  // of opening braces takes the whole stack.
  parser.SetRecursionLimit(kMaxTextFileDepth);
  return parser.ParseFromString(std::string(text), message);
}

}  // namespace ccoe
