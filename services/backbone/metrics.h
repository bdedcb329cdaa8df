// SPDX-License-Identifier: Apache-2.0
// What an engine reports and what its gates chose, as metrics of its backbone worker.
#ifndef CCOE_SERVICES_BACKBONE_METRICS_H_
#define CCOE_SERVICES_BACKBONE_METRICS_H_

#include "runtime/engine/engine_options.h"
#include "runtime/engine/moe_statistics.h"
#include "runtime/telemetry/metrics.h"

namespace ccoe::services {

// Thread-safe.
class EngineMetrics final : public engine::EngineObserver {
 public:
  // `metrics` must outlive this.
  explicit EngineMetrics(telemetry::BackboneMetrics* metrics) : metrics_(*metrics) {}

  void OnStep(int64_t rows, int64_t sequences, absl::Duration duration) override;
  void OnSwap(const engine::SwapEvent& event) override;
  void OnHungSwap(const std::string& what) override;
  void OnFailover() override;
  void OnFirstToken(absl::Duration since_submit) override;
  void OnNextToken(absl::Duration since_previous) override;
  void OnPreemption() override;
  void OnFinish(engine::FinishReason reason, const engine::Usage& usage) override;

  // Brings the gauges up to date.
  void Sample(const engine::EngineLoad& load);

 private:
  telemetry::BackboneMetrics& metrics_;
};

// Few series, whatever the model. Brings `metrics` up to date with `statistics`. Calls for one
// MoeMetrics must not overlap.
void SampleMoe(const engine::MoeStatistics& statistics, telemetry::MoeMetrics& metrics);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_BACKBONE_METRICS_H_
