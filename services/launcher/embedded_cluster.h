// SPDX-License-Identifier: Apache-2.0
// A whole cluster in one process: the same services as in several, joined by in-process channels.
#ifndef CCOE_SERVICES_LAUNCHER_EMBEDDED_CLUSTER_H_
#define CCOE_SERVICES_LAUNCHER_EMBEDDED_CLUSTER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/common/channel_factory.h"
#include "services/common/compute.h"
#include "services/common/role_environment.h"
#include "services/common/row_carriers.h"
#include "services/launcher/cluster_plan.h"
#include "services/launcher/role.h"
#include "services/offline/offline_engine.h"

namespace ccoe::services {

// Router, gateway, backbone workers and expert workers, over one compute team. Thread-safe.
// Destruction cancels what runs.
class EmbeddedCluster {
 public:
  // Loads and starts everything; the gateway listens at its address (its HTTP is the caller's
  // business). `exchange`: how rows travel: kLocal without a wire, kGrpc over in-process
  // channels. `team` and `metrics` outlive the cluster. Errors name the file, tensor, rule or
  // address; nothing is left running then.
  static absl::StatusOr<std::unique_ptr<EmbeddedCluster>> Create(const ClusterOptions& options,
                                                                 ExchangeKind exchange,
                                                                 ThreadTeam* team,
                                                                 telemetry::Metrics* metrics);
  ~EmbeddedCluster();

  // Waits until a token was generated with the base and every expert. DEADLINE_EXCEEDED says what
  // does not answer.
  absl::Status WaitReady(absl::Time deadline) const;

  // OK while everything answers; see Gateway::ready.
  absl::Status ready() const { return gateway().status(); }

  // Refuses new queries, lets running ones end until `grace` is over, stops everything.
  void Drain(absl::Duration grace);

  // Of the gateway, with the real port.
  const std::string& address() const { return gateway().address(); }

 private:
  EmbeddedCluster(const ClusterOptions& options, ExchangeKind exchange, ThreadTeam* team,
                  telemetry::Metrics* metrics);

  struct Started {
    RoleKind kind;
    std::unique_ptr<Role> role;
  };

  absl::Status StartAll();
  const Role& gateway() const { return *roles_.back().role; }

  const ClusterOptions options_;
  ThreadTeam* const team_;
  std::unique_ptr<Compute> compute_;
  InProcessRegistry in_process_;
  const ChannelFactory channels_;
  LocalPeers local_peers_;
  RoleEnvironment environment_;
  std::vector<Started> roles_;  // in the order of their start
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_LAUNCHER_EMBEDDED_CLUSTER_H_
