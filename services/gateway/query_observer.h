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
  // Instead of all others: the query was not admitted.
  virtual void OnRefused(const absl::Status& status) = 0;
  virtual void OnBegin() = 0;
  virtual void OnFirstToken(absl::Duration since_began) = 0;
  virtual void OnNextToken(absl::Duration since_previous) = 0;
  struct End {
    absl::Status status;
    bool routed = false;
    v1::Decision decision;  // where routed
    v1::Usage usage;        // zero where it did not begin to answer
    absl::Duration took;
  };
  // Once after OnBegin.
  virtual void OnEnd(const End& end) = 0;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_GATEWAY_QUERY_OBSERVER_H_
