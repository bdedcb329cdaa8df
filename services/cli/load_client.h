// Any number of Generate calls at once from a few threads, with the time of every token.
//
// gRPC's callback API: a call costs no thread, and a token wakes nobody but the thread that read it
// from the socket, so that the generator takes little of a machine that it shares with the server.
// Times are of the monotonic clock.
#ifndef CCOE_SERVICES_CLI_LOAD_CLIENT_H_
#define CCOE_SERVICES_CLI_LOAD_CLIENT_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "ccoe/v1/inference.grpc.pb.h"
#include "services/cli/client.h"
#include "services/cli/serve_metrics.h"

namespace ccoe::cli {

// Since some moment before the process began; goes on evenly whatever is done to the system's time.
absl::Duration MonotonicNow();

// Thread-safe.
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

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_LOAD_CLIENT_H_
