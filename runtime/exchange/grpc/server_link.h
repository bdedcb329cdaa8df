// SPDX-License-Identifier: Apache-2.0
// The expert worker's end of one open link.
#ifndef CCOE_RUNTIME_EXCHANGE_GRPC_SERVER_LINK_H_
#define CCOE_RUNTIME_EXCHANGE_GRPC_SERVER_LINK_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "ccoe/v1/exchange.grpc.pb.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/exchange/envelope.h"
#include "runtime/exchange/grpc/handshake.h"
#include "runtime/exchange/grpc/link_thread.h"
#include "runtime/exchange/grpc/link_writer.h"
#include "runtime/exchange/grpc/rows_beside.h"
#include "runtime/exchange/row_carrier.h"

namespace ccoe::exchange {

struct ServerLinkOptions {
  LinkIdentity identity;  // who we are; hidden_size and numerics are the handler's
  uint64_t epoch = 0;     // differs after each start of the worker
  LinkGrant grant;        // to each peer
  absl::Duration open_timeout = absl::Seconds(10);  // from the stream's start to its OpenLink
  // Rows beside the stream for peers that ask for it. Null: all rows in messages. Outlives the
  // link.
  RowCarrierFactory* carriers = nullptr;
  absl::Duration carrier_timeout = absl::Seconds(30);  // to connect one with the peer
};

grpc::Status ToGrpcStatus(const absl::Status& status);

// One call of ExchangeService::Open, in gRPC's callback API. A thread of its own runs it from its
// handshake to its end and waits in between: messages are taken in on gRPC's threads (OnReadDone)
// and hand swaps to the handler, answers are encoded and written by whoever brings them
// (LinkWriter).
class ServerLink final : public grpc::ServerBidiReactor<v1::LinkMessage, v1::LinkReply> {
 public:
  // `options` is kept by reference.
  ServerLink(SwapHandler* handler, const ServerLinkOptions& options,
             grpc::CallbackServerContext* context);

  // Runs the link until the peer goes, Cancel, or the protocol is broken. Then removes the peer
  // from the handler, and ends its stream with the status that says how it came. Call once, on a
  // thread that may block; after it gRPC knows the link no more.
  void Run();

  // Ends the link with `why`, if it is not over. Returns at once.
  void Cancel(const absl::Status& why) ABSL_LOCKS_EXCLUDED(cancel_mutex_);

 private:
  // The headers of an envelope's swaps, by rising id, for as long as one is computed.
  using Headers = std::shared_ptr<const std::vector<SwapHeader>>;

  // gRPC's threads.
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone() override;

  // From the first message to the last.
  absl::Status Serve();
  // Takes message_, and reads the next one where it is sound.
  void TakeMessage();
  absl::Status WhyCancelled() const ABSL_LOCKS_EXCLUDED(cancel_mutex_);
  LinkIdentity Identity() const;
  absl::Status Accept(const v1::LinkMessage& first);
  absl::Status Take(const v1::LinkMessage& message);
  absl::Status TakeHeartbeat(const v1::Heartbeat& heartbeat);
  absl::Status TakeCancel(const v1::Cancel& cancel);
  absl::Status TakeEnvelope(const v1::Envelope& message);
  // Ids that rise, all of them within the grant.
  absl::Status CheckIds(const v1::Envelope& message);
  // Puts the swap into `envelope`, or answers it where it alone is wrong. An error ends the link.
  absl::Status TakeSwap(const v1::SwapRequest& request, const RowFormat& format,
                        Envelope& envelope);
  absl::Status TakeRelease(uint64_t sequence_id);
  // What has come, in order, of which the rows may still be on their way beside the stream.
  struct Arrival {
    Envelope envelope;         // or:
    uint64_t sequence_id = 0;  // of a release
    bool release = false;
    uint64_t last_id = 0;  // of the envelope's swaps, with those that were refused
    size_t missing = 0;    // swaps without their rows
  };
  absl::Status Queue(std::shared_ptr<Arrival> arrival) ABSL_LOCKS_EXCLUDED(mutex_);
  void ReceiveRows(const std::shared_ptr<Arrival>& arrival);
  void TakeRows(Arrival& arrival, size_t swap, absl::StatusOr<ArrivedRows> rows)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Hands what is complete to the handler, in order.
  void Deliver() ABSL_LOCKS_EXCLUDED(mutex_);
  void Hand(Arrival& arrival);
  absl::Status CheckSums(const Envelope& envelope) const;
  // Counts what the peer has outstanding; RESOURCE_EXHAUSTED where it is more than granted.
  absl::Status Charge(uint64_t step_id, const SwapCredit& cost);
  void Discharge(const SwapCredit& cost);
  void Reply(const SwapHeader& header, const SwapCredit& cost, absl::StatusOr<SwapResult> result);
  // As LinkWriter::Write.
  bool WriteReply(v1::LinkReply reply) {
    reply_ = std::move(reply);
    StartWrite(&reply_);
    return true;
  }
  bool WriteAnswer(const SwapHeader& header, const absl::StatusOr<SwapResult>& result);
  void Push(int64_t bytes, LinkWriter::Write write);

  SwapHandler* const handler_;
  const ServerLinkOptions& options_;
  const uint64_t peer_;
  std::unique_ptr<RowsBeside> beside_;  // set before any swap; null: rows are in messages
  std::atomic<int64_t> charged_bytes_ = 0, charged_swaps_ = 0;
  uint64_t last_id_ = 0;                // that came
  std::atomic<uint64_t> taken_in_ = 0;  // that the handler has
  uint64_t last_heartbeat_ = 0;
  absl::Mutex mutex_;
  std::deque<std::shared_ptr<Arrival>> arrivals_ ABSL_GUARDED_BY(mutex_);
  bool delivering_ ABSL_GUARDED_BY(mutex_) = false;

  mutable absl::Mutex cancel_mutex_;
  grpc::CallbackServerContext* context_ ABSL_GUARDED_BY(cancel_mutex_);  // null: the call is over
  absl::Status cancelled_ ABSL_GUARDED_BY(cancel_mutex_);                // why
  v1::LinkMessage message_;                                              // being read
  v1::LinkReply reply_;                                                  // being written
  absl::Notification first_read_, ended_, over_;
  bool has_first_ = false;  // written before first_read_
  absl::Status broke_;      // written before ended_: by the peer
  LinkWriter writer_;
  LinkThread thread_;  // joined first
};

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_GRPC_SERVER_LINK_H_
