// Which expert is held where: the table that routing and the workers' directives are made of.
#ifndef CCOE_SERVICES_ROUTER_PLACEMENT_H_
#define CCOE_SERVICES_ROUTER_PLACEMENT_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "ccoe/v1/control.pb.h"
#include "runtime/base/ids.h"
#include "services/router/worker_registry.h"

namespace ccoe::services {

// Not thread-safe; Cluster guards it.
class Placement {
 public:
  // Builds the table anew from the ready expert workers of the cluster's model. Copies of one
  // expert version must agree in layers and base fingerprint; a worker (in the order of ids) that
  // disagrees with an earlier one is left out for that expert. True where the table changed; the
  // epoch has risen then.
  bool Update(const std::map<std::string, Worker>& workers, const std::string& model_fingerprint);

  // Starts at 0, an empty table.
  int64_t epoch() const { return epoch_; }

  // The version that a request gets: the named one, or for version 0 the newest held. NOT_FOUND
  // lists what there is.
  absl::StatusOr<ExpertRef> Resolve(const ExpertRef& wanted) const;

  // By name and version, replicas filled in.
  std::vector<v1::ExpertInfo> Experts() const;

  v1::Directive ToDirective(absl::Duration lease) const;

 private:
  std::map<ExpertRef, v1::ExpertPlace> places_;
  int64_t epoch_ = 0;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_ROUTER_PLACEMENT_H_
