// SPDX-License-Identifier: Apache-2.0
// How a grpc link opens: what both ends say of themselves, and what they hold each other to.
#ifndef CCOE_RUNTIME_EXCHANGE_GRPC_HANDSHAKE_H_
#define CCOE_RUNTIME_EXCHANGE_GRPC_HANDSHAKE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "ccoe/v1/exchange.pb.h"
#include "kernels/dtype.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/exchange/envelope.h"
#include "runtime/exchange/row_carrier.h"

namespace ccoe::exchange {

// Rises when two builds could misunderstand each other; adding a proto field does not do that.
inline constexpr uint32_t kExchangeProtocolVersion = 3;

// One end of a link. Texts are of 256 bytes at most, without control characters; an empty one is
// not compared.
struct LinkIdentity {
  std::string worker_id;          // for the peer's logs
  std::string model_fingerprint;  // of the base model's shape
  std::string source_digest;      // of the base's weights as published
  std::string served_digest;      // of the weights as served
  std::string numerics;           // see LinkPeer
  int64_t hidden_size = 0;
};

// What an accepting end grants each link.
struct LinkGrant {
  // Outstanding at once. The default lets one envelope of the largest size in, with its answers.
  SwapCredit credit = {int64_t{128} << 20, 1024};
  EnvelopeLimits limits;  // of one envelope
};

v1::OpenLink MakeOpen(const LinkIdentity& ours, kernels::DType dtype, RowCarrierFactory* carriers);

// FAILED_PRECONDITION: another protocol version, hidden size, model or weights, naming both.
// INVALID_ARGUMENT: texts that are too long or no text, an unknown dtype.
absl::Status CheckOpen(const v1::OpenLink& open, const LinkIdentity& ours);

v1::OpenAccepted MakeAccepted(const LinkIdentity& ours, uint64_t epoch, const LinkGrant& grant,
                              const v1::Carrier& carrier);

// FAILED_PRECONDITION: another protocol version. INTERNAL: a reply that makes no sense.
// INVALID_ARGUMENT: texts as in CheckOpen.
absl::Status CheckAccepted(const v1::LinkReply& reply);

// What a checked OpenAccepted grants, and who gave it.
LinkGrant GrantOf(const v1::OpenAccepted& accepted);
LinkPeer PeerOf(const v1::OpenAccepted& accepted);

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_GRPC_HANDSHAKE_H_
