// SPDX-License-Identifier: Apache-2.0
// A cluster of real processes on loopback: the same binary once for each role.
#ifndef CCOE_SERVICES_LAUNCHER_PROCESS_CLUSTER_H_
#define CCOE_SERVICES_LAUNCHER_PROCESS_CLUSTER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/launcher/child_process.h"
#include "services/launcher/cluster_plan.h"
#include "services/launcher/role_options.h"

namespace ccoe::services {

// Used by one thread, which outlives it (see ChildProcess). Destruction kills what runs.
class ProcessCluster {
 public:
  // Starts router, backbone workers, expert workers and gateway with free ports on loopback, and
  // waits until /healthz answers 200. `program` is the ccoe binary. Where anything fails, nothing
  // is left running.
  static absl::StatusOr<std::unique_ptr<ProcessCluster>> Start(const ClusterOptions& options,
                                                               const std::string& program);

  // Watches the children until `stopped` says true. Nothing is restarted. The death of one of
  // several expert or backbone workers is told to `on_death` (others may take its place);
  // UNAVAILABLE where a process died that no query does without.
  absl::Status Watch(const std::function<bool()>& stopped,
                     const std::function<void(const std::string& message)>& on_death);

  // SIGTERM to all, a role at a time (kDrainOrder); what outlives the gateway's drain_timeout (each
  // its own) is killed. UNAVAILABLE names a child that did not end well.
  absl::Status Drain();

  // Of the gateway, with the real ports.
  const std::string& address() const { return address_; }
  const std::string& http_address() const { return http_address_; }

 private:
  struct Child {
    std::unique_ptr<ChildProcess> process;
    RoleKind kind;
    bool essential = true;
    bool death_told = false;
  };
  // What a role says once it runs: its gRPC and its HTTP address.
  struct Addresses {
    std::string grpc, http;
  };

  ProcessCluster(const ClusterOptions& options, std::string program)
      : options_(options), program_(std::move(program)) {}

  absl::Status StartAll();
  // A child that is told `role` by a config file; nothing of it is left when it ends.
  absl::Status Spawn(RoleOptions role, bool essential);
  absl::StatusOr<Addresses> Await(ChildProcess& child);
  absl::Status AwaitReady();

  const ClusterOptions options_;
  const std::string program_;
  absl::Time start_deadline_ = absl::InfiniteFuture();
  std::string address_, http_address_;
  std::vector<Child> children_;  // in the order of their start
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_LAUNCHER_PROCESS_CLUSTER_H_
