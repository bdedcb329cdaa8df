// What a query reports about itself, for metrics and readiness.
#ifndef CCOE_SERVICES_GATEWAY_QUERY_OBSERVER_H_
#define CCOE_SERVICES_GATEWAY_QUERY_OBSERVER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ccoe/v1/common.pb.h"

namespace ccoe::services {

// Thread-safe; must not block.
class QueryObserver {
 public:
  virtual ~QueryObserver() = default;
  virtual void OnRouted(const v1::Decision& decision) = 0;
  virtual void OnFirstToken(absl::Duration since_began) = 0;
  virtual void OnNextToken(absl::Duration since_previous) = 0;
  // Another backbone worker is tried.
  virtual void OnRetry() = 0;
  // Once a query. `decision` is empty where the query was not routed.
  struct End {
    absl::Status status;
    v1::Decision decision;
    int64_t prompt_tokens = 0;
    int64_t generated_tokens = 0;
    absl::Duration took;
  };
  virtual void OnEnd(const End& end) = 0;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_GATEWAY_QUERY_OBSERVER_H_
