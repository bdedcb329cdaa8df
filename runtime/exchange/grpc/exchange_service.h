// Accepts links of backbone workers and hands their swaps to a SwapHandler.
#ifndef CCOE_RUNTIME_EXCHANGE_GRPC_EXCHANGE_SERVICE_H_
#define CCOE_RUNTIME_EXCHANGE_GRPC_EXCHANGE_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "ccoe/v1/exchange.grpc.pb.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/exchange/grpc/server_link.h"

namespace ccoe::exchange {

struct ExchangeServiceOptions {
  ServerLinkOptions link;
  int max_links = 256;  // open at once; one more is refused
};

// Two threads a link: gRPC's for reading, one for writing. Everything that comes in is checked: a
// message that breaks the protocol ends its link, a bad swap is answered with its error. A link's
// end, however it comes, removes its peer from the handler. Thread-safe. Outlives the server it is
// registered at.
class ExchangeService final : public v1::Exchange::Service {
 public:
  // `handler` must outlive the service.
  ExchangeService(SwapHandler* handler, ExchangeServiceOptions options);

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

  SwapHandler* const handler_;
  const ExchangeServiceOptions options_;
  mutable absl::Mutex mutex_;
  absl::flat_hash_set<grpc::ServerContext*> open_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_GRPC_EXCHANGE_SERVICE_H_
