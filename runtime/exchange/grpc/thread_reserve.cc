#include "runtime/exchange/grpc/thread_reserve.h"

#include <exception>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"

namespace ccoe::exchange {
namespace {

// What executors and servers of gRPC may start at once on a machine of a few cores, and what the
// links let in by one probe may start: two each.
constexpr size_t kSpareThreads = 16 + 2 * ThreadReserve::kLinksAProbe;
constexpr absl::Duration kProbeHolds = absl::Seconds(1);

}  // namespace

bool StartsSpareThreads() {
  absl::Notification go;
  std::vector<std::thread> threads;
  threads.reserve(kSpareThreads);
  try {
    while (threads.size() < kSpareThreads) {
      threads.emplace_back([&go] { go.WaitForNotification(); });
    }
  } catch (const std::exception&) {  // no thread, or no memory for it
  }
  go.Notify();
  for (std::thread& thread : threads) thread.join();
  return threads.size() == kSpareThreads;
}

ThreadReserve::ThreadReserve(std::function<bool()> probe, const Clock* clock)
    : probe_(std::move(probe)), clock_(ClockOr(clock)) {}

bool ThreadReserve::Admit() {
  absl::MutexLock lock(&mutex_);
  const absl::Time now = clock_.Now();
  const bool failed = now < until_ && links_ == 0;
  if (failed) return false;
  if (now >= until_) {
    links_ = probe_() ? kLinksAProbe : 0;
    until_ = clock_.Now() + kProbeHolds;
    if (links_ == 0) return false;
  }
  if (--links_ == 0) until_ = absl::InfinitePast();  // the next link probes anew
  return true;
}

}  // namespace ccoe::exchange
