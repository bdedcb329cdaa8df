// SPDX-License-Identifier: Apache-2.0
// Whether the cluster really answers: ready means that a token was generated through the whole
// path.
#ifndef CCOE_SERVICES_GATEWAY_READINESS_H_
#define CCOE_SERVICES_GATEWAY_READINESS_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace ccoe::services {

struct ReadinessOptions {
  // The experts that can be asked for now ("math@1"). Required.
  std::function<absl::StatusOr<std::vector<std::string>>()> list_experts;
  // Generates a token with an expert, or with "base". Bounded in time by itself. Required.
  std::function<absl::Status(const std::string& expert)> probe;
  // Called from the prober's thread when readiness changes. Required.
  std::function<void(bool ready)> on_change;
  // A target that answered (a probe or a client's query) is not probed again for so long.
  absl::Duration interval = absl::Seconds(30);
  // While something is not ready.
  absl::Duration retry = absl::Milliseconds(250);
};

// Probes the base and each expert in the background: all must answer. RESOURCE_EXHAUSTED counts as
// an answer of a target that answered before (it is busy, not broken); FAILED_PRECONDITION of the
// base means that this cluster leaves the base's own top out, which is no fault while it has
// experts. Thread-safe.
class Readiness {
 public:
  explicit Readiness(ReadinessOptions options);
  ~Readiness();
  Readiness(const Readiness&) = delete;
  Readiness& operator=(const Readiness&) = delete;

  // OK, or what does not answer and why.
  absl::Status status() const ABSL_LOCKS_EXCLUDED(mutex_);

  // A client's query was answered: as good as a probe. Or it found nobody there: the target is
  // probed soon.
  void NoteAnswer(const std::string& expert) ABSL_LOCKS_EXCLUDED(mutex_);
  void NoteUnavailable(const std::string& expert) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Run();
  // One round over all targets.
  absl::Status ProbeAll();
  absl::Status ProbeOne(const std::string& target, bool has_experts) ABSL_LOCKS_EXCLUDED(mutex_);
  bool stopping() const ABSL_LOCKS_EXCLUDED(mutex_);

  const ReadinessOptions options_;
  mutable absl::Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_) = absl::UnavailableError("nothing was probed yet");
  std::map<std::string, absl::Time> answered_ ABSL_GUARDED_BY(mutex_);  // by target
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_GATEWAY_READINESS_H_
