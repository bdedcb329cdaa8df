// The expert worker's end of one open link.
#ifndef CCOE_SERVICES_EXPERT_PEER_LINK_H_
#define CCOE_SERVICES_EXPERT_PEER_LINK_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "ccoe/v1/exchange.grpc.pb.h"
#include "runtime/base/bounded_queue.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/exchange/row_carrier.h"
#include "services/expert/exchange_service.h"

namespace ccoe::services {

// Lives as long as one call of ExchangeService::Open, on its thread; answers come from the
// handler's threads and leave by a writer thread of the link's own.
class PeerLink {
 public:
  using Stream = grpc::ServerReaderWriter<v1::LinkReply, v1::LinkMessage>;

  PeerLink(exchange::SwapHandler* handler, const ExchangeServiceOptions& options,
           grpc::ServerContext* context, Stream* stream);
  ~PeerLink();  // removes the peer from the handler, then stops the writer

  // Runs the link until the peer goes, the context is cancelled or the protocol is broken (the
  // status says how).
  absl::Status Run();

 private:
  // What the writer sends: the OpenAccepted, the answer to a heartbeat, or that to a swap.
  struct Outgoing {
    bool accepted = false;
    v1::Carrier carrier;     // of an OpenAccepted
    uint64_t heartbeat = 0;  // its number; 0: none
    exchange::StepHeader header;
    absl::StatusOr<exchange::SwapResult> result;
  };

  absl::Status Accept(const v1::LinkMessage& first);
  // What the OpenAccepted says to a peer that asked for rows beside the stream.
  v1::Carrier OfferCarrier(const v1::RowsBesideStream& asked) const;
  // Rows that came to the device; else none, and they are in `request`.
  absl::StatusOr<exchange::RowBlock> ReceiveRows(const exchange::StepHeader& header,
                                                 v1::SwapRequest& request);
  absl::Status Take(v1::LinkMessage& message);
  absl::Status TakeHeartbeat(const v1::Heartbeat& heartbeat);
  absl::Status TakeSwap(v1::SwapRequest& request);
  // What the handler gets: `beside` if any, else what `request` holds.
  absl::StatusOr<exchange::RowBlock> CheckedRows(v1::SwapRequest& request,
                                                 const exchange::StepHeader& header,
                                                 exchange::RowBlock beside) const;
  absl::Status SendRows(const Outgoing& outgoing, const std::string& rows);
  void Reply(const exchange::StepHeader& header, absl::StatusOr<exchange::SwapResult> result);
  void Push(Outgoing outgoing);
  void Write();
  void WriteAll();
  v1::LinkReply Encode(const Outgoing& outgoing) const;

  exchange::SwapHandler* const handler_;
  const ExchangeServiceOptions& options_;
  grpc::ServerContext* const context_;
  Stream* const stream_;
  const uint64_t peer_;
  BoundedQueue<Outgoing> queue_;
  std::unique_ptr<exchange::RowCarrier> carrier_;  // null: rows in messages; set before any swap
  exchange::RowMemory* memory_ = nullptr;          // of the carrier's, where the handler reads it
  std::atomic<int> in_flight_ = 0;
  std::atomic<bool> overflowed_ = false;  // the peer does not read its answers
  bool any_step_ = false;
  uint64_t last_step_ = 0;
  uint64_t last_heartbeat_ = 0;
  std::atomic<bool> ending_ = false;  // what still waits to be sent has no reader
  absl::Notification writer_done_;
  std::thread writer_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_EXPERT_PEER_LINK_H_
