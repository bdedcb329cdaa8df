// SPDX-License-Identifier: Apache-2.0
// One load, from its first request to its last answer: LoadRun over a LoadClient.
#ifndef CCOE_SERVICES_CLI_BENCH_LOAD_RUN_H_
#define CCOE_SERVICES_CLI_BENCH_LOAD_RUN_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <queue>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "ccoe/v1/inference.grpc.pb.h"
#include "services/cli/bench/load_schedule.h"
#include "services/cli/bench/serve_metrics.h"
#include "services/cli/client/client.h"

namespace ccoe::cli {

// Since some moment before the process began; goes on evenly whatever is done to the system's time.
absl::Duration MonotonicNow();

// Any number of Generate calls at once from a few threads, with the time of every token.
// Thread-safe.
//
// gRPC's callback API: a call costs no thread, and a token wakes nobody but the thread that read it
// from the socket, so that the generator takes little of a machine that it shares with the server.
// Times are of the monotonic clock.
class LoadClient {
 public:
  // INVALID_ARGUMENT: a malformed address. A server that is not there shows in the calls.
  static absl::StatusOr<std::unique_ptr<LoadClient>> Create(const ClientFlags& flags);
  // Cancels what runs and waits for it.
  ~LoadClient();
  LoadClient(const LoadClient&) = delete;
  LoadClient& operator=(const LoadClient&) = delete;

  // Sends; `done` is called once, from a thread of gRPC, when the call has ended. It must not call
  // this object. Left to the caller: `index`, `sent`.
  void Send(v1::GenerateRequest request, std::function<void(ServedRequest)> done)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Ends all calls that run; they are `done` soon, marked as cancelled. Later ones are too.
  void CancelAll() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  class Call;

  LoadClient(absl::Duration timeout, std::unique_ptr<v1::Inference::Stub> stub)
      : timeout_(timeout), stub_(std::move(stub)) {}
  void Remove(Call* call) ABSL_LOCKS_EXCLUDED(mutex_);

  const absl::Duration timeout_;
  const std::unique_ptr<v1::Inference::Stub> stub_;
  absl::Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  absl::flat_hash_set<Call*> calls_ ABSL_GUARDED_BY(mutex_);
};

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

// Run's thread sends each request when it is due and a place is free, and between two of them deals
// with the answers that ended: whoever makes requests and counts answers needs no locks. Calls live
// on gRPC's threads (LoadClient), which only lay their answers down here.
//
// Closed loop: rate infinity and a limit on the concurrency, so that a request is sent when another
// ends. Open loop: a finite rate, whatever the server does. Both together: the rate, as long as the
// limit lets it.
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

#endif  // CCOE_SERVICES_CLI_BENCH_LOAD_RUN_H_
