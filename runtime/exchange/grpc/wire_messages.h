// SPDX-License-Identifier: Apache-2.0
// The messages of a grpc link (proto/ccoe/v1/exchange.proto) to and from the structs of
// runtime/exchange.
#ifndef CCOE_RUNTIME_EXCHANGE_GRPC_WIRE_MESSAGES_H_
#define CCOE_RUNTIME_EXCHANGE_GRPC_WIRE_MESSAGES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ccoe/v1/exchange.pb.h"
#include "kernels/dtype.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/exchange/envelope.h"
#include "runtime/exchange/swap_result.h"

namespace ccoe::exchange {

// Largest message both ends must be set to take, in bytes, and what of it the rows of an envelope,
// or of an answer, may use.
inline constexpr int64_t kMaxLinkMessageBytes = int64_t{64} << 20;
inline constexpr int64_t kMaxEnvelopeBytes = kMaxLinkMessageBytes - (int64_t{1} << 20);

v1::WireDtype ToWire(kernels::DType dtype);  // kF32 or kBF16
absl::StatusOr<kernels::DType> FromWire(v1::WireDtype dtype);

// kInvalid where the swap's rows and experts, or the rows of its answer, do not fit into one
// message. The header has passed Validate.
absl::Status CheckFitsMessage(const SwapHeader& header);

// Rows of host memory are gathered and encoded into the message, or, with `beside`, into a text for
// each swap; those of a device are left to whoever carries them.
void ToWire(const Envelope& envelope, v1::Envelope& message,
            std::vector<std::string>* beside = nullptr);

// INVALID_ARGUMENT: an unknown dtype.
absl::StatusOr<RowFormat> FormatOf(const v1::Envelope& message);

// Translates and refuses what has no meaning here (kInvalid: an unknown enum value, no work, a row
// that goes through no expert); the result still has to pass Validate.
absl::StatusOr<SwapHeader> FromWire(const v1::SwapRequest& message, const RowFormat& format);

// An answer to the swap `header`. A result of the wrong shape becomes one with kInternal. Rows of a
// device are left to whoever carries them.
void ToWire(const SwapHeader& header, const absl::StatusOr<SwapResult>& result,
            v1::SwapAnswer& message);

// The result that `message` carries, decoded by `header`, the swap it answers; without its rows
// where they travel beside the stream. An error is the peer's answer where message.reason() is set;
// else it breaks the protocol: bytes and header disagree, verdicts of sequences that are not there.
absl::StatusOr<SwapResult> FromWire(const v1::SwapAnswer& message, const SwapHeader& header,
                                    bool rows_beside = false);

v1::HeartbeatReply ToWire(uint64_t number, const HostProgress& progress, uint64_t taken_in);
HostProgress ProgressOf(const v1::HeartbeatReply& reply);

// A reason this build does not know is kInternal.
SwapReason FromWire(v1::SwapReason reason);

// What a peer said, for people: valid UTF-8 without control and format characters, cut to 2,048
// bytes.
std::string TextOf(absl::string_view text);

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_GRPC_WIRE_MESSAGES_H_
