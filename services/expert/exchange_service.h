// Accepts links of backbone workers and hands their swaps to a SwapHandler: the expert worker's end
// of the grpc transport.
#ifndef CCOE_SERVICES_EXPERT_EXCHANGE_SERVICE_H_
#define CCOE_SERVICES_EXPERT_EXCHANGE_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "ccoe/v1/exchange.grpc.pb.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/exchange/row_carrier.h"
#include "runtime/exchange/step_header.h"

namespace ccoe::services {

struct ExchangeServiceOptions {
  std::string worker_id;          // told to peers, for their logs
  uint64_t epoch = 0;             // differs after each start of the worker
  std::string model_fingerprint;  // of the base model; empty: peers' are not compared
  int max_swaps_in_flight = 64;   // of one peer; one more is answered with RESOURCE_EXHAUSTED
  int max_links = 256;            // open at once; one more is refused
  exchange::StepLimits limits;    // of one swap
  absl::Duration open_timeout = absl::Seconds(10);  // from the stream's start to its OpenLink
  // Rows beside the stream for peers that ask for it. Null: all rows in messages. Outlives the
  // service.
  exchange::RowCarrierFactory* carriers = nullptr;
  absl::Duration carrier_timeout = absl::Seconds(30);  // to connect one with the peer
};

// Two threads a link: gRPC's for reading, one for writing. Everything that comes in is checked: a
// message that breaks the protocol ends its link, a bad swap is answered with its error. A link's
// end, however it comes, removes its peer from the handler. Thread-safe. Outlives the server it is
// registered at.
class ExchangeService final : public v1::Exchange::Service {
 public:
  // `handler` must outlive the service.
  ExchangeService(exchange::SwapHandler* handler, ExchangeServiceOptions options);

  grpc::Status Open(grpc::ServerContext* context,
                    grpc::ServerReaderWriter<v1::LinkReply, v1::LinkMessage>* stream) override;

  // Ends all links with UNAVAILABLE and refuses new ones: what a drain calls, since links have no
  // end of their own.
  void CloseLinks() ABSL_LOCKS_EXCLUDED(mutex_);

  // Open now.
  int links() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  absl::Status Admit(grpc::ServerContext* context) ABSL_LOCKS_EXCLUDED(mutex_);
  void Leave(grpc::ServerContext* context) ABSL_LOCKS_EXCLUDED(mutex_);
  bool closing() const ABSL_LOCKS_EXCLUDED(mutex_);

  exchange::SwapHandler* const handler_;
  const ExchangeServiceOptions options_;
  mutable absl::Mutex mutex_;
  absl::flat_hash_set<grpc::ServerContext*> open_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_EXPERT_EXCHANGE_SERVICE_H_
