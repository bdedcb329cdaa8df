// What queries report, as metrics and as news for readiness.
#ifndef CCOE_SERVICES_GATEWAY_QUERY_METRICS_H_
#define CCOE_SERVICES_GATEWAY_QUERY_METRICS_H_

#include <functional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "runtime/telemetry/metrics.h"
#include "services/gateway/query_observer.h"

namespace ccoe::services {

// Thread-safe.
class QueryMetrics final : public QueryObserver {
 public:
  // Told how each routed query ended, with its expert ("math@1" or "base").
  using OnOutcome = std::function<void(const std::string& expert, const absl::Status& status)>;

  // `metrics` must outlive this.
  QueryMetrics(telemetry::GatewayMetrics* metrics, OnOutcome on_outcome)
      : metrics_(*metrics), on_outcome_(std::move(on_outcome)) {}

  void OnRefused(const absl::Status& status) override;
  void OnBegin() override;
  void OnFirstToken(absl::Duration since_began) override;
  void OnNextToken(absl::Duration since_previous) override;
  void OnEnd(const End& end) override;

 private:
  telemetry::GatewayMetrics& metrics_;
  const OnOutcome on_outcome_;
};

// "math@1", or "base".
std::string ExpertName(const v1::Decision& decision);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_GATEWAY_QUERY_METRICS_H_
