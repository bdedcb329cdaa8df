// SPDX-License-Identifier: Apache-2.0
// The one conversion between absl::Status and grpc::Status, and the hint when to come back.
#ifndef CCOE_SERVICES_COMMON_STATUS_TO_GRPC_H_
#define CCOE_SERVICES_COMMON_STATUS_TO_GRPC_H_

#include <grpcpp/grpcpp.h>

#include <cstddef>
#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace ccoe::services {

// Longer messages are cut here, at the end of a UTF-8 character: they travel in HTTP/2 headers,
// which are bounded.
inline constexpr size_t kMaxStatusMessageBytes = 1024;

// Trailer of a RESOURCE_EXHAUSTED or UNAVAILABLE answer: milliseconds, as a decimal number.
inline constexpr char kRetryAfterTrailer[] = "retry-after-ms";

// `status` with the hint that a retry after `delay` may succeed (cut to 1 ms to 1 hour). An OK
// status is left alone.
absl::Status WithRetryAfter(absl::Status status, absl::Duration delay);
// The hint that `status` carries.
std::optional<absl::Duration> RetryAfter(const absl::Status& status);

// Codes are equal by number. An absl::Status with a code that gRPC does not know becomes UNKNOWN,
// and the reverse.
grpc::Status ToGrpc(const absl::Status& status);
// As above, and puts the retry hint of `status`, if it has one, into the trailers of the call. For
// handlers: `return ToGrpc(status, context)`.
grpc::Status ToGrpc(const absl::Status& status, grpc::ServerContextBase* context);

absl::Status FromGrpc(const grpc::Status& status);
// As above, with the retry hint that the server sent. Only after the call has finished (trailers
// have come).
absl::Status FromGrpc(const grpc::Status& status, const grpc::ClientContext& context);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_STATUS_TO_GRPC_H_
