// SPDX-License-Identifier: Apache-2.0
// Which workers there are, and which of them still live.
#ifndef CCOE_SERVICES_ROUTER_WORKER_REGISTRY_H_
#define CCOE_SERVICES_ROUTER_WORKER_REGISTRY_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ccoe/v1/control.pb.h"
#include "runtime/base/clock.h"

namespace ccoe::services {

struct WorkerRegistryOptions {
  // A worker that is silent for so long is forgotten.
  absl::Duration lease = absl::Seconds(6);
  int max_workers = 4096;
  // The model that all workers must have. Empty: the first backbone worker's.
  std::string model_fingerprint = {};
};

// Bounds on what one report may say.
inline constexpr size_t kMaxWorkerIdBytes = 128;
inline constexpr size_t kMaxAddressBytes = 300;
inline constexpr int kMaxHeldExperts = 1024;
inline constexpr size_t kMaxExpertInfoBytes = 64 << 10;

// One life of a worker: from its first report to the end of its stream or lease. Never reused.
using WorkerSession = uint64_t;

struct Worker {
  v1::WorkerReport report;  // the last one
  WorkerSession session = 0;
  absl::Time last_report;
  // Queries sent there since the last report, which its load does not tell yet.
  int64_t sent_since_report = 0;

  // Takes queries or rows now.
  bool ready() const { return report.ready(); }
};

// Not thread-safe; ClusterState guards it.
class WorkerRegistry {
 public:
  // `clock` outlives the registry.
  WorkerRegistry(const Clock* clock, WorkerRegistryOptions options)
      : clock_(*clock),
        options_(std::move(options)),
        model_fingerprint_(options_.model_fingerprint) {}

  // The first report of a stream. A worker with the same id takes the place of the earlier one (it
  // restarted), but not of one that reports from another address. FAILED_PRECONDITION names both
  // sides of another protocol version, model or weights; INVALID_ARGUMENT a malformed report;
  // UNAVAILABLE what may be over soon: the id is taken, or a silent worker has other weights;
  // RESOURCE_EXHAUSTED too many workers.
  absl::StatusOr<WorkerSession> Register(const v1::WorkerReport& report);

  // A later report. ABORTED where the session is over (the worker should register again); else
  // errors as Register.
  absl::Status Report(WorkerSession session, const v1::WorkerReport& report);

  // The stream has ended. A session that is over already is ignored.
  void Remove(WorkerSession session);

  // Forgets the workers whose lease has run out; their sessions.
  std::vector<WorkerSession> Expire();

  // One more query goes to the worker; ignored where it has gone.
  void CountSent(const std::string& worker_id);

  // By worker id.
  const std::map<std::string, Worker>& workers() const { return workers_; }

  // The identity that all workers share: the options', else set by the first backbone worker, kept
  // while one is registered. Empty: none yet.
  const std::string& model_fingerprint() const { return model_fingerprint_; }

  absl::Duration lease() const { return options_.lease; }
  absl::Time now() const { return clock_.Now(); }

 private:
  absl::Status CheckReport(const v1::WorkerReport& report) const;
  // Whether a worker may be gone already, for all that is known of it.
  bool IsSilent(const Worker& worker) const {
    return clock_.Now() - worker.last_report > options_.lease / 2;
  }
  absl::Status CheckWeights(const v1::WorkerReport& report) const;
  void ForgetModelWithoutBackbone();

  const Clock& clock_;
  const WorkerRegistryOptions options_;
  std::map<std::string, Worker> workers_;
  std::map<WorkerSession, std::string> ids_;  // of the sessions that run
  WorkerSession next_session_ = 1;
  std::string model_fingerprint_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_ROUTER_WORKER_REGISTRY_H_
