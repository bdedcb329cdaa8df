#include "services/gateway/query_metrics.h"

#include "absl/time/time.h"
#include "services/backbone/wire.h"

namespace ccoe::services {

void QueryMetrics::OnRefused(const absl::Status& status) {
  metrics_.requests.Increment(status.code());
}

void QueryMetrics::OnBegin() { metrics_.running_requests.Increment(); }

void QueryMetrics::OnFirstToken(absl::Duration since_began) {
  metrics_.first_token_seconds.Observe(absl::ToDoubleSeconds(since_began));
}

void QueryMetrics::OnNextToken(absl::Duration since_previous) {
  metrics_.inter_token_seconds.Observe(absl::ToDoubleSeconds(since_previous));
}

void QueryMetrics::OnEnd(const End& end) {
  metrics_.running_requests.Decrement();
  metrics_.requests.Increment(end.status.code());
  metrics_.request_seconds.Observe(absl::ToDoubleSeconds(end.took));
  metrics_.queue_seconds.Observe(end.usage.queue_seconds());
  metrics_.prompt_tokens.Increment(static_cast<double>(end.usage.prompt_tokens()));
  metrics_.generated_tokens.Increment(static_cast<double>(end.usage.generated_tokens()));
  if (end.routed) on_outcome_(ExpertName(end.decision), end.status);
}

std::string ExpertName(const v1::Decision& decision) {
  const ExpertRef expert = ExpertFromProto(decision.expert());
  return expert.empty() ? "base" : expert.ToString();
}

}  // namespace ccoe::services
