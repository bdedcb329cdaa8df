// How a status says when a retry may succeed. The payload's value is a decimal number of milliseconds; services/common turns it
// into a trailer.
#ifndef CCOE_RUNTIME_BASE_RETRY_HINT_H_
#define CCOE_RUNTIME_BASE_RETRY_HINT_H_

namespace ccoe {

inline constexpr char kRetryAfterPayload[] = "ccoe/retry-after-ms";

}  // namespace ccoe

#endif  // CCOE_RUNTIME_BASE_RETRY_HINT_H_
