// SPDX-License-Identifier: Apache-2.0
// Accepts links of backbone workers and hands their swaps to a SwapHandler.
#ifndef CCOE_RUNTIME_EXCHANGE_GRPC_EXCHANGE_SERVICE_H_
#define CCOE_RUNTIME_EXCHANGE_GRPC_EXCHANGE_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <list>
#include <memory>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "ccoe/v1/exchange.grpc.pb.h"
#include "runtime/base/clock.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/exchange/grpc/server_link.h"

namespace ccoe::exchange {

// Starts and ends some threads: whether the system lets this process have them. No limit can be
// read instead: a user's, a container's and the machine's count other processes too.
bool StartsSpareThreads();

// gRPC starts threads of its own when calls end, and loses what they were for where it gets none.
// So links are refused while the process is near its limit. Probing takes the very threads it asks
// for, for some milliseconds: at the limit it is done at most once a second, else once for a few
// links, and never twice at one time. It is no guarantee, since the rest of the machine may take
// the threads meanwhile. Thread-safe.
class ThreadReserve {
 public:
  // A probe that succeeds holds for a second and for so many links.
  static constexpr int kLinksAProbe = 4;

  explicit ThreadReserve(std::function<bool()> probe = StartsSpareThreads,
                         const Clock* clock = nullptr);

  // Whether a link may start its threads.
  bool Admit() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  const std::function<bool()> probe_;
  const Clock& clock_;
  absl::Mutex mutex_;
  absl::Time until_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  int links_ ABSL_GUARDED_BY(mutex_) = 0;  // that may still come in on the last probe
};

struct ExchangeServiceOptions {
  ServerLinkOptions link;
  int max_links = 256;                                       // open at once; one more is refused
  std::function<bool()> spare_threads = StartsSpareThreads;  // see ThreadReserve
};

// One thread a link, which waits; see ServerLink. Everything that comes in is checked: a message
// that breaks the protocol ends its link, a bad swap is answered with its error. A link's end,
// however it comes, removes its peer from the handler. Thread-safe. Outlives the server it is
// registered at.
class ExchangeService final : public v1::Exchange::CallbackService {
 public:
  // `handler` must outlive the service.
  ExchangeService(SwapHandler* handler, ExchangeServiceOptions options);
  ~ExchangeService() override;  // waits for its links, which the server has ended

  grpc::ServerBidiReactor<v1::LinkMessage, v1::LinkReply>* Open(
      grpc::CallbackServerContext* context) override ABSL_LOCKS_EXCLUDED(mutex_);

  // Ends all links with UNAVAILABLE and refuses new ones: what a drain calls, since links have no
  // end of their own.
  void CloseLinks() ABSL_LOCKS_EXCLUDED(mutex_);

  // Open now.
  int links() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct OpenLink {
    std::unique_ptr<ServerLink> link;  // null: it is over, and the thread at its end
    std::thread thread;
  };

  absl::Status AdmitLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status StartLocked(grpc::CallbackServerContext* context)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int LinksLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Run(OpenLink& open) ABSL_LOCKS_EXCLUDED(mutex_);
  // Takes out the links that are over.
  std::list<OpenLink> TakeOver() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  SwapHandler* const handler_;
  const ExchangeServiceOptions options_;
  ThreadReserve reserve_;
  mutable absl::Mutex mutex_;
  std::list<OpenLink> open_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_GRPC_EXCHANGE_SERVICE_H_
