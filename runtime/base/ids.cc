// SPDX-License-Identifier: Apache-2.0
#include "runtime/base/ids.h"

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace ccoe {
namespace {

constexpr size_t kMaxNameLength = 64;

bool IsNameCharacter(char c) { return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-'; }

bool IsName(absl::string_view name) {
  if (name.empty() || name.size() > kMaxNameLength) return false;
  for (char c : name) {
    if (!IsNameCharacter(c)) return false;
  }
  return true;
}

}  // namespace

std::string ExpertRef::ToString() const {
  return version == 0 ? name : absl::StrCat(name, "@", version);
}

absl::StatusOr<ExpertRef> ExpertRef::Parse(absl::string_view text) {
  ExpertRef ref;
  const size_t at = text.find('@');
  const absl::string_view name = text.substr(0, at);
  if (!IsName(name)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expert \"", text.substr(0, 80), "\": expected NAME or NAME@VERSION, NAME of 1 to ",
        kMaxNameLength, " letters, digits, '.', '_' or '-'"));
  }
  ref.name = std::string(name);
  if (at == absl::string_view::npos) return ref;
  if (!absl::SimpleAtoi(text.substr(at + 1), &ref.version) || ref.version < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expert \"", text.substr(0, 80), "\": expected a version of 1 or more after '@'"));
  }
  return ref;
}

}  // namespace ccoe
