// What a backbone worker's gates chose, as metrics: few series, whatever the model.
#ifndef CCOE_SERVICES_BACKBONE_MOE_METRICS_H_
#define CCOE_SERVICES_BACKBONE_MOE_METRICS_H_

#include "runtime/engine/moe_statistics.h"
#include "runtime/telemetry/metrics.h"

namespace ccoe::services {

// Brings `metrics` up to date with `statistics`. Calls for one MoeMetrics must not overlap.
void SampleMoe(const engine::MoeStatistics& statistics, telemetry::MoeMetrics& metrics);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_BACKBONE_MOE_METRICS_H_
