// SPDX-License-Identifier: Apache-2.0
// What a cluster on one machine is made of, in one process or in several.
//
//   flags, file ─► ClusterOptions ─PlanCluster─► RoleOptions of each role, in the order of start
//   (ccoe up)        a template of each role,      │
//                    the model, how many           ├─► EmbeddedCluster: StartRole, in this process
//                                                  └─► ProcessCluster: ConfigTextOf ─► a child each
//   flags, file ─► RoleOptions of one role ─────────── ServeRole ◄─ `ccoe ROLE --config FILE` ◄──┘
//   (ccoe ROLE)                                        = ServerProcess around StartRole
//
// PlanCluster fills in what follows from the cluster: names, what each worker holds, that roles
// within listen at free ports of loopback. All else of a role is as its template says.
#ifndef CCOE_SERVICES_LAUNCHER_CLUSTER_PLAN_H_
#define CCOE_SERVICES_LAUNCHER_CLUSTER_PLAN_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/placement/plan.h"
#include "services/launcher/role_options.h"

namespace ccoe::services {

// What a model folder holds: a checkpoint, or a base with its experts and rules.
struct ModelLayout {
  std::string base_folder;
  std::vector<std::string> bundle_folders;  // may be empty
  std::string rules_file;                   // empty: no rules
};

// FOLDER/base, FOLDER/experts/*, FOLDER/routing.textproto where FOLDER/base is a folder (as in
// models/demo), else FOLDER itself is the base. `experts_folder` and `rules_file` take their places
// where they are not empty. NOT_FOUND names what is missing.
absl::StatusOr<ModelLayout> FindModel(const std::string& folder, const std::string& experts_folder,
                                      const std::string& rules_file);

struct ClusterOptions {
  ModelLayout model;
  // 0 to 64; not used for a dense model without layer experts. nullopt: 1 with layer experts, else
  // 0. With 0 the FFN experts of a model are with the backbone workers.
  std::optional<int> expert_workers;
  int backbone_workers = 1;    // 1 to 16, sharing the expert workers
  int ffn_copies = 1;          // of every FFN expert, on different expert workers
  std::string placement_file;  // of FFN experts; empty: one is made
  // What each role of a kind is told, but for what the plan fills in. The gateway's addresses are
  // the cluster's; in one process, the backbone's threads and compute are all workers'.
  RouterRole router;
  BackboneRole backbone;
  ExpertRole expert;
  GatewayRole gateway;
  absl::Duration start_timeout = absl::Minutes(10);  // until everything answers
  // Told what is going on while the cluster starts, for people. Unset: nothing.
  std::function<void(const std::string& what)> on_progress;
};

// Bundles in turn over `workers` workers; where there are more workers than bundles, the rest hold
// replicas in turn. One list a worker, none empty; no worker without bundles.
std::vector<std::vector<std::string>> AssignBundles(const std::vector<std::string>& bundles,
                                                    int workers);

struct StartedExpertWorker {
  std::string id;
  std::vector<std::string> bundles;  // may be empty where `placement` names the worker
};

struct ExpertPlan {
  std::vector<StartedExpertWorker> workers;
  // Of the model's FFN experts; nullopt: all are with the backbone workers.
  std::optional<placement::Plan> placement;
};

// Layer experts in turn over the workers (AssignBundles); FFN experts as options.placement_file
// says, else planned evenly in options.ffn_copies copies. The workers of a placement file have the
// ids it names; else they are "expert-0", "expert-1". INVALID_ARGUMENT: a placement file for a
// model without FFN experts or with mistakes, another number of workers than it names, layer
// experts without a worker; RESOURCE_EXHAUSTED from the planner.
absl::StatusOr<ExpertPlan> PlanExperts(const ClusterOptions& options);

// Every role, in the order of their start: router, backbone workers, expert workers, gateway. All
// but the gateway listen at free ports of loopback; nobody knows the router's address yet
// (SetRouterAddress). Errors as PlanExperts.
absl::StatusOr<std::vector<RoleOptions>> PlanCluster(const ClusterOptions& options);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_LAUNCHER_CLUSTER_PLAN_H_
