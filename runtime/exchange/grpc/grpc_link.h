// SPDX-License-Identifier: Apache-2.0
// The link over gRPC: one bidirectional stream, anywhere two processes can reach each other (and
// inside one process). This is the backbone's end; server_link.h is the other.
#ifndef CCOE_RUNTIME_EXCHANGE_GRPC_GRPC_LINK_H_
#define CCOE_RUNTIME_EXCHANGE_GRPC_GRPC_LINK_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ccoe/v1/exchange.grpc.pb.h"
#include "kernels/dtype.h"
#include "runtime/base/clock.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/exchange/envelope.h"
#include "runtime/exchange/grpc/handshake.h"
#include "runtime/exchange/link_table.h"
#include "runtime/exchange/row_carrier.h"

namespace grpc {
class Channel;
}

namespace ccoe::exchange {

struct GrpcLinkOptions {
  std::string name = "grpc";                         // ActivationLink::Name: "grpc://10.0.0.7:8201"
  LinkIdentity identity;                             // who we are; hidden_size > 0
  kernels::DType wire_dtype = kernels::DType::kF32;  // what most swaps will use
  // Outstanding at the peer at once: the peer's credits hold where they are lower. Limits likewise.
  LinkGrant use;
  // May wait for credit beside; more is refused with kLinkFull.
  SwapCredit backlog = {int64_t{256} << 20, 4096};
  absl::Duration open_timeout = absl::Seconds(10);
  // While swaps are in flight heartbeats ask for a sign of life, answered whatever the peer
  // computes, and for its progress. A peer that gives neither in time is left. silence at least 1
  // ms; InfiniteDuration: never looked at.
  PeerPatience patience;
  // Rows beside the stream, where the peer can do it too. Null: rows in messages. Outlives the
  // link.
  RowCarrierFactory* carriers = nullptr;
  // FAILED_PRECONDITION where the peer refuses `carriers`; else rows travel in messages then.
  bool require_carrier = false;
  const Clock* clock = nullptr;  // null: the system's
};

// Opens a link and waits for the peer's OpenAccepted, at most open_timeout. The channel must take
// messages of kMaxLinkMessageBytes (wire_messages.h) and should probe silent connections
// (keepalive), so that a peer that vanished without a word is noticed while no swap is in flight.
//   FAILED_PRECONDITION  another protocol version, hidden size, model or weights, naming both; no
//                        carrier
//   UNAVAILABLE          nobody there
//   DEADLINE_EXCEEDED    no answer within open_timeout
//
// A thread for its table, and one more once there are many rows to encode or decode; other messages
// are written on the sender's thread and read on gRPC's own, which all links of the process share.
// Neither open nor destroy a link on one of those: that is, not in a SwapCallback. An answer given
// twice or to a swap never sent, or rows of the wrong size, close the link; so do silence and a
// stalled peer.
absl::StatusOr<std::unique_ptr<ActivationLink>> OpenGrpcLink(std::shared_ptr<grpc::Channel> channel,
                                                             const GrpcLinkOptions& options);
// Over any stream: `stub` opens it, with its callback API.
absl::StatusOr<std::unique_ptr<ActivationLink>> OpenGrpcLink(
    std::unique_ptr<v1::Exchange::StubInterface> stub, const GrpcLinkOptions& options);

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_GRPC_GRPC_LINK_H_
