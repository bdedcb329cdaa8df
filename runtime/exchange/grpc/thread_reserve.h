// Leaves gRPC the threads it needs: who is about to start threads for a new link asks here first.
#ifndef CCOE_RUNTIME_EXCHANGE_GRPC_THREAD_RESERVE_H_
#define CCOE_RUNTIME_EXCHANGE_GRPC_THREAD_RESERVE_H_

#include <functional>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "runtime/base/clock.h"

namespace ccoe::exchange {

// Starts and ends some threads: whether the system lets this process have them. No limit can be
// read instead: a user's, a container's and the machine's count other processes too.
bool StartsSpareThreads();

// gRPC starts threads of its own when calls end, and loses what they were for where it gets none.
// So links are refused while the process is near its limit. Probing takes the very threads it asks
// for, for some milliseconds: it is done at most once a second, and never twice at one time. It is
// no guarantee, since the rest of the machine may take the threads meanwhile. Thread-safe.
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

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_GRPC_THREAD_RESERVE_H_
