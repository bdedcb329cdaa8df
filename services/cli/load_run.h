// One load, from its first request to its last answer.
//
// Run's thread sends each request when it is due and a place is free, and between two of them deals
// with the answers that ended: whoever makes requests and counts answers needs no locks. Calls live
// on gRPC's threads (load_client.h), which only lay their answers down here.
//
// Closed loop: rate infinity and a limit on the concurrency, so that a request is sent when another
// ends. Open loop: a finite rate, whatever the server does. Both together: the rate, as long as the
// limit lets it.
#ifndef CCOE_SERVICES_CLI_LOAD_RUN_H_
#define CCOE_SERVICES_CLI_LOAD_RUN_H_

#include <cstdint>
#include <functional>
#include <queue>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "ccoe/v1/inference.pb.h"
#include "services/cli/load_client.h"
#include "services/cli/load_schedule.h"
#include "services/cli/serve_metrics.h"

namespace ccoe::cli {

struct LoadRunOptions {
  int64_t requests = 0;                                // 0: no end but `duration`
  absl::Duration duration = absl::InfiniteDuration();  // no request is sent after it
  ArrivalOptions arrivals;
  // Requests at once; 0: no limit but kMostAtOnce. With a limit, the place of a refused request is
  // free only when the server said to come back (kDefaultRest without a word), as of a client that
  // does what it is told.
  int64_t max_concurrency = 0;
};

// Bound on the calls of one load, and so on its memory.
inline constexpr int64_t kMostAtOnce = 16384;
inline constexpr absl::Duration kDefaultRest = absl::Milliseconds(100);

// What is asked, and what becomes of it. All are called by Run's thread.
class Workload {
 public:
  virtual ~Workload() = default;
  virtual v1::GenerateRequest Make(int64_t index) = 0;
  virtual void OnServed(const ServedRequest& request) = 0;
  // Some times a second.
  virtual void OnTick(absl::Duration elapsed, int64_t in_flight) = 0;
};

struct LoadRunResult {
  absl::Duration elapsed;  // to the end of the last call
  int64_t sent = 0;
  int64_t peak_concurrency = 0;
  // Longest time that a request of an open loop was sent after it was due: the limit on
  // concurrency held it back, or this machine is too slow for the rate.
  absl::Duration latest_send = absl::ZeroDuration();
};

class LoadRun {
 public:
  // Both outlive the run.
  LoadRun(const LoadRunOptions& options, LoadClient* client, Workload* workload)
      : options_(options), client_(client), workload_(workload) {}

  // Blocks until the last answer is dealt with. Call once.
  LoadRunResult Run();

  // Ends the run: sends no more, cancels what is under way. From any thread.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // Deals with answers until a request that is due at `due` may be sent. False: none any more.
  bool WaitToSend(absl::Duration due) ABSL_LOCKS_EXCLUDED(mutex_);
  void Send(int64_t index, absl::Duration due) ABSL_LOCKS_EXCLUDED(mutex_);
  void Drain() ABSL_LOCKS_EXCLUDED(mutex_);
  // Hands on what ended, after a wait for it of at most `longest`. False once Stop was called.
  bool Collect(absl::Duration longest) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnServed(const ServedRequest& request);
  bool HasPlace(absl::Duration now);
  absl::Duration Elapsed() const { return MonotonicNow() - began_; }

  const LoadRunOptions options_;
  LoadClient* const client_;
  Workload* const workload_;

  // Run's thread alone.
  absl::Duration began_;
  int64_t in_flight_ = 0;
  bool knows_of_stop_ = false;
  // Places of refused requests: when each is free again, soonest first.
  std::priority_queue<absl::Duration, std::vector<absl::Duration>, std::greater<>> resting_;
  LoadRunResult result_;

  absl::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<ServedRequest> ended_ ABSL_GUARDED_BY(mutex_);  // at most in_flight_
};

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_LOAD_RUN_H_
