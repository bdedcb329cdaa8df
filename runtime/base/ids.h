// SPDX-License-Identifier: Apache-2.0
// Strong types for the identities that cross folders.
#ifndef CCOE_RUNTIME_BASE_IDS_H_
#define CCOE_RUNTIME_BASE_IDS_H_

#include <cstdint>
#include <string>
#include <tuple>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ccoe {

// An expert by name and version, written NAME@VERSION. Versions count from 1; version 0 means "the
// newest available" and stands in requests only: a query is bound to a real version at admission.
struct ExpertRef {
  std::string name;
  int64_t version = 0;

  // "math@3", or "math" for version 0.
  std::string ToString() const;

  // Parses "math" or "math@3". INVALID_ARGUMENT for an empty name, characters outside
  // [A-Za-z0-9._-], a name longer than 64 characters or a version that is not a positive number.
  static absl::StatusOr<ExpertRef> Parse(absl::string_view text);

  bool empty() const { return name.empty(); }
  friend bool operator==(const ExpertRef& a, const ExpertRef& b) {
    return a.name == b.name && a.version == b.version;
  }
  friend bool operator<(const ExpertRef& a, const ExpertRef& b) {
    return std::tie(a.name, a.version) < std::tie(b.name, b.version);
  }
  template <typename H>
  friend H AbslHashValue(H h, const ExpertRef& ref) {
    return H::combine(std::move(h), ref.name, ref.version);
  }
};

}  // namespace ccoe

#endif  // CCOE_RUNTIME_BASE_IDS_H_
