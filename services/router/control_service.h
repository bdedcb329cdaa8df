// SPDX-License-Identifier: Apache-2.0
// The Control service: workers' heartbeat streams, directives, leases; the status for operators.
#ifndef CCOE_SERVICES_ROUTER_CONTROL_SERVICE_H_
#define CCOE_SERVICES_ROUTER_CONTROL_SERVICE_H_

#include <cstdint>
#include <set>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "ccoe/v1/control.grpc.pb.h"
#include "services/router/cluster_state.h"

namespace ccoe::services {

// Thread-safe. A stream takes no thread while it is silent.
class ControlService final : public v1::Control::CallbackService {
 public:
  // `cluster` outlives the service. A thread of the service ends the leases that run out.
  explicit ControlService(ClusterState* cluster);
  // After the server has drained; waits for the last stream.
  ~ControlService() override;

  grpc::ServerBidiReactor<v1::WorkerReport, v1::Directive>* Register(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context,
                                      const v1::GetStatusRequest* request,
                                      v1::ClusterStatus* response) override;
  grpc::ServerUnaryReactor* GetPlacement(grpc::CallbackServerContext* context,
                                         const v1::GetPlacementRequest* request,
                                         v1::PlacementPlan* response) override;

  // Forgets the silent workers, as the service's thread does several times a lease.
  void ExpireNow() ABSL_LOCKS_EXCLUDED(mutex_);

  // Ends all streams with UNAVAILABLE and refuses new ones: for ServerOptions::on_drain. Workers
  // keep their last directive.
  void EndStreams() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  class Stream;

  // Where the table has changed since the last time, every worker gets the new directive.
  void SendChanges() ABSL_LOCKS_EXCLUDED(mutex_);
  void SendChangesLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The stream is over; where that changed the table, the others hear of it.
  void Forget(Stream* stream) ABSL_LOCKS_EXCLUDED(mutex_);
  void ExpireUntilStopped() ABSL_LOCKS_EXCLUDED(mutex_);

  ClusterState& cluster_;
  // Held while a stream is called from outside, so that it cannot go meanwhile.
  absl::Mutex mutex_;
  std::set<Stream*> streams_ ABSL_GUARDED_BY(mutex_);
  int64_t sent_epoch_ ABSL_GUARDED_BY(mutex_) = 0;  // of the table that workers were told of
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread expirer_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_ROUTER_CONTROL_SERVICE_H_
