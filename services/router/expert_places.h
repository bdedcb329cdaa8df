// SPDX-License-Identifier: Apache-2.0
// Which expert is held where, and which shall be: the table that routing and the workers'
// directives are made of.
#ifndef CCOE_SERVICES_ROUTER_EXPERT_PLACES_H_
#define CCOE_SERVICES_ROUTER_EXPERT_PLACES_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ccoe/v1/control.pb.h"
#include "runtime/base/ids.h"
#include "runtime/placement/plan.h"
#include "services/router/worker_registry.h"

namespace ccoe::services {

// Not thread-safe; ClusterState guards it.
class ExpertPlaces {
 public:
  // For how long an expert is known whose last worker has gone: queries for it wait for a worker,
  // for as long as the backbone's patience, and are not told that there is no such expert.
  static constexpr absl::Duration kRemembered = absl::Minutes(10);

  // `plan`: where FFN experts shall be; nullopt: not planned, all are with the backbone workers.
  explicit ExpertPlaces(std::optional<placement::Plan> plan = std::nullopt);

  // Builds the table anew from the ready expert workers of the cluster's model. Copies of one
  // expert version must agree in layers and base fingerprint; a worker (in the order of ids) that
  // disagrees with an earlier one is left out for that expert. True where the table changed; the
  // epoch has risen then.
  bool Update(const std::map<std::string, Worker>& workers, const std::string& model_fingerprint,
              absl::Time now);

  // Starts at 0, an empty table.
  int64_t epoch() const { return epoch_; }

  // The version that a request gets: the named one, or for version 0 the newest held. NOT_FOUND
  // lists what there is.
  absl::StatusOr<ExpertRef> Resolve(const ExpertRef& wanted) const;
  // Likewise, and where none is held the one that was held until lately.
  absl::StatusOr<ExpertRef> ResolveKnown(const ExpertRef& wanted) const;

  // By name and version, replicas filled in.
  std::vector<v1::ExpertInfo> Experts() const;

  // For one worker: backbone workers learn who holds which FFN experts, expert workers what they
  // shall hold.
  v1::Directive ToDirective(absl::Duration lease, const std::string& worker_id,
                            v1::WorkerRole role) const;

  const std::optional<placement::Plan>& plan() const { return plan_; }
  // Rises with every change of the plan; 0: there is none.
  int64_t plan_epoch() const { return plan_.has_value() ? 1 : 0; }

 private:
  struct Gone {
    v1::ExpertPlace place;  // without workers
    absl::Time since;
  };

  const std::optional<placement::Plan> plan_;
  std::map<std::string, v1::FfnShard> assignments_;  // the plan's, by worker id
  std::map<ExpertRef, v1::ExpertPlace> places_;
  std::map<ExpertRef, Gone> gone_;                  // none of them in places_
  std::string model_fingerprint_;                   // the last one that was known
  std::map<std::string, v1::FfnPlace> ffn_places_;  // by worker id
  int64_t epoch_ = 0;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_ROUTER_EXPERT_PLACES_H_
