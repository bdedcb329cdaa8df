// What an expert runner holds and has done, as metrics of its expert worker.
#ifndef CCOE_SERVICES_EXPERT_RUNNER_METRICS_H_
#define CCOE_SERVICES_EXPERT_RUNNER_METRICS_H_

#include <vector>

#include "runtime/experts/expert_runner.h"
#include "runtime/telemetry/metrics.h"

namespace ccoe::services {

// Brings `metrics` up to date with all experts of one runner. Calls for one worker's metrics must
// not overlap.
void SampleRunner(const std::vector<experts::ExpertLoad>& experts,
                  telemetry::ExpertMetrics& metrics);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_EXPERT_RUNNER_METRICS_H_
