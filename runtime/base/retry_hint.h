// SPDX-License-Identifier: Apache-2.0
// How a status says when a retry may succeed. The payload's value is a decimal number of
// milliseconds; services/common turns it into a trailer.
#ifndef CCOE_RUNTIME_BASE_RETRY_HINT_H_
#define CCOE_RUNTIME_BASE_RETRY_HINT_H_

#include <algorithm>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace ccoe {

inline constexpr char kRetryAfterPayload[] = "ccoe/retry-after-ms";
inline constexpr int64_t kLongestRetryMs = 3600 * 1000;

// `status` with the hint that a retry after `delay` may succeed (cut to 1 ms to 1 hour). An OK
// status is left alone.
inline absl::Status WithRetryHint(absl::Status status, absl::Duration delay) {
  if (status.ok()) return status;
  const int64_t ms = std::clamp<int64_t>(absl::ToInt64Milliseconds(delay), 1, kLongestRetryMs);
  status.SetPayload(kRetryAfterPayload, absl::Cord(absl::StrCat(ms)));
  return status;
}

}  // namespace ccoe

#endif  // CCOE_RUNTIME_BASE_RETRY_HINT_H_
