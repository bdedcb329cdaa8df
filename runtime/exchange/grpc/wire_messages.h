// The messages of a grpc link (proto/ccoe/v1/exchange.proto) to and from the structs of
// runtime/exchange.
#ifndef CCOE_RUNTIME_EXCHANGE_GRPC_WIRE_MESSAGES_H_
#define CCOE_RUNTIME_EXCHANGE_GRPC_WIRE_MESSAGES_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ccoe/v1/exchange.pb.h"
#include "kernels/dtype.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/exchange/step_header.h"

namespace ccoe::exchange {

// Rises when two builds could misunderstand each other; adding a proto field does not do that.
inline constexpr uint32_t kExchangeProtocolVersion = 2;

// Largest message both ends must be set to take, in bytes, and what of it the rows of one swap may
// use.
inline constexpr int64_t kMaxLinkMessageBytes = int64_t{64} << 20;
inline constexpr int64_t kMaxSwapBytes = kMaxLinkMessageBytes - (int64_t{1} << 20);

// INVALID_ARGUMENT where the swap's rows and experts, or the rows of its answer, do not fit into
// one message. The header has passed Validate.
absl::Status CheckFitsMessage(const StepHeader& header);

// Bytes of the rows alone: what travels beside the stream where a RowCarrier takes them. The header
// has passed Validate and CheckFitsMessage.
size_t SentRowBytes(const StepHeader& header);
size_t ReturnedRowBytes(const StepHeader& header);

v1::WireDtype ToWire(kernels::DType dtype);  // kF32 or kBF16
absl::StatusOr<kernels::DType> FromWire(v1::WireDtype dtype);

void ToWire(const StepHeader& header, v1::StepHeader& message);
// Translates and refuses what has no meaning here (INVALID_ARGUMENT: an unknown enum value, a
// row that goes through no expert); the result still has to pass Validate.
absl::StatusOr<StepHeader> FromWire(const v1::StepHeader& message);

// A reply to the step `header`. A result of the wrong size becomes an INTERNAL reply. Rows of a
// device are left to whoever carries them.
void ToWire(const StepHeader& header, const absl::StatusOr<SwapResult>& result,
            v1::SwapReply& message);
// The result that `message` carries: decoded by `header`, the step it answers. INTERNAL where bytes
// and header disagree. `beside` are the rows where they came to a device.
absl::StatusOr<SwapResult> FromWire(const v1::SwapReply& message, const StepHeader& header,
                                    RowBlock beside = {});

// The status of a code and message from a peer. A code that is none of the canonical ones becomes
// UNKNOWN.
absl::Status StatusFromWire(int code, absl::string_view text);

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_GRPC_WIRE_MESSAGES_H_
