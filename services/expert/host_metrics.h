// What a host of units holds and has done, as metrics of its expert worker.
#ifndef CCOE_SERVICES_EXPERT_HOST_METRICS_H_
#define CCOE_SERVICES_EXPERT_HOST_METRICS_H_

#include "runtime/experts/unit_host.h"
#include "runtime/telemetry/metrics.h"

namespace ccoe::services {

// Brings `metrics` up to date with all experts of one host. Calls for one worker's metrics must not
// overlap.
void SampleHost(const experts::HostLoad& load, telemetry::ExpertMetrics& metrics);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_EXPERT_HOST_METRICS_H_
