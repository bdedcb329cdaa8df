// The link over gRPC: one bidirectional stream, anywhere two processes can reach each other (and
// inside one process).
#ifndef CCOE_RUNTIME_EXCHANGE_GRPC_GRPC_LINK_H_
#define CCOE_RUNTIME_EXCHANGE_GRPC_GRPC_LINK_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/dtype.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/exchange/row_carrier.h"

namespace grpc {
class Channel;
}

namespace ccoe::exchange {

struct GrpcLinkOptions {
  std::string name = "grpc";                         // ActivationLink::Name: "grpc://10.0.0.7:8201"
  std::string worker_id;                             // who we are, for the peer's logs
  std::string model_fingerprint;                     // of the base model; empty: not compared
  int64_t hidden_size = 0;                           // > 0
  kernels::DType wire_dtype = kernels::DType::kF32;  // what most swaps will use
  int max_swaps_in_flight =
      64;             // the peer's limit holds where it is lower; one more gets RESOURCE_EXHAUSTED
  StepLimits limits;  // likewise
  absl::Duration open_timeout = absl::Seconds(10);
  absl::Duration longest_wait = absl::Minutes(10);  // deadlines further away are cut to this
  // A peer that gives no sign of life for so long while swaps are in flight hangs: the link is
  // closed. Heartbeats ask for one, answered whatever the peer computes. At least 1 ms;
  // InfiniteDuration: never.
  absl::Duration silence_timeout = absl::Seconds(1);
  // Rows beside the stream, where the peer can do it too. Null: rows in messages. Outlives the
  // link.
  RowCarrierFactory* carriers = nullptr;
  // FAILED_PRECONDITION where the peer refuses `carriers`; else rows travel in messages then.
  bool require_carrier = false;
};

// Opens a link and waits for the peer's OpenAccepted, at most open_timeout. The channel must take
// messages of kMaxLinkMessageBytes (wire_messages.h) and should probe silent connections
// (keepalive), so that a peer that vanished without a word is noticed while no swap is in flight.
//   FAILED_PRECONDITION  another protocol version, hidden size or model; names both; no carrier
//   UNAVAILABLE          nobody there
//   DEADLINE_EXCEEDED    no answer within open_timeout
//
// A reader and a writer thread a link. An answer given twice or to a step never sent, or rows of
// the wrong size, close the link; so do a missed deadline and silence.
absl::StatusOr<std::unique_ptr<ActivationLink>> OpenGrpcLink(std::shared_ptr<grpc::Channel> channel,
                                                             const GrpcLinkOptions& options);

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_GRPC_GRPC_LINK_H_
