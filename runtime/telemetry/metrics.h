// SPDX-License-Identifier: Apache-2.0
// Every metric of ccoe: defined here and nowhere else, named ccoe_<role>_<noun>_<unit>.
// docs/metrics.md is the table for people; its test holds the two together.
#ifndef CCOE_RUNTIME_TELEMETRY_METRICS_H_
#define CCOE_RUNTIME_TELEMETRY_METRICS_H_

#include <prometheus/collectable.h>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

namespace ccoe::telemetry {

// One counter for every value of a label (a status code, a reason), made when it is first needed
// (most never are). Values come from a fixed set. Thread-safe.
class LabelledCounter {
 public:
  explicit LabelledCounter(prometheus::Family<prometheus::Counter>& family,
                           prometheus::Labels labels = {}, std::string label = "code")
      : family_(family), labels_(std::move(labels)), label_(std::move(label)) {}
  void Increment(const std::string& value);
  void Increment(absl::StatusCode code);

 private:
  prometheus::Family<prometheus::Counter>& family_;
  const prometheus::Labels labels_;
  const std::string label_;
};

// One gauge for every MoE layer of a model, made when it is first needed. Thread-safe.
class GaugeByLayer {
 public:
  GaugeByLayer(prometheus::Family<prometheus::Gauge>& family, prometheus::Labels labels)
      : family_(family), labels_(std::move(labels)) {}
  void Set(int32_t layer, double value);

 private:
  prometheus::Family<prometheus::Gauge>& family_;
  const prometheus::Labels labels_;
};

// A role's metrics, as plain references into a registry that outlives them. prometheus-cpp's
// counters, gauges and histograms are thread-safe. Histograms take seconds, or counts where the
// name says so.
struct GatewayMetrics {
  explicit GatewayMetrics(prometheus::Registry& registry);

  LabelledCounter requests;                    // Generate calls that ended, by code
  prometheus::Gauge& running_requests;         // Generate calls open now
  prometheus::Histogram& first_token_seconds;  // from a request's arrival
  prometheus::Histogram& inter_token_seconds;  // between two tokens of one answer
  prometheus::Histogram& request_seconds;      // from arrival to the last message
  prometheus::Histogram& queue_seconds;        // as the backbone worker reports it (Usage)
  prometheus::Counter& prompt_tokens;
  prometheus::Counter& generated_tokens;
};

struct RouterMetrics {
  explicit RouterMetrics(prometheus::Registry& registry);

  prometheus::Counter& explicit_decisions;  // the client named the expert
  prometheus::Counter& rule_decisions;      // a rule did
  prometheus::Counter& default_decisions;   // no rule matched: base
  prometheus::Counter& fallback_decisions;  // a rule named an expert that no worker holds: base
  LabelledCounter failed_routes;            // Route calls that ended with an error
  prometheus::Histogram& route_seconds;
  prometheus::Gauge& registered_backbones;
  prometheus::Gauge& registered_experts;  // expert workers
  prometheus::Gauge& ready_backbones;
  prometheus::Gauge& ready_experts;  // expert workers
  prometheus::Gauge& held_experts;   // different experts that a live worker holds
  prometheus::Gauge& table_epoch;
  prometheus::Counter& expired_leases;
  prometheus::Counter& refused_workers;
};

// Of one backbone worker.
struct BackboneMetrics {
  BackboneMetrics(prometheus::Registry& registry, const std::string& worker);

  prometheus::Gauge& waiting_queries;
  prometheus::Gauge& running_queries;
  prometheus::Gauge& kv_used_tokens;
  prometheus::Gauge& kv_total_tokens;
  prometheus::Histogram& step_rows;  // tokens of one step
  prometheus::Histogram& step_sequences;
  prometheus::Histogram& step_seconds;
  prometheus::Histogram& queue_seconds;        // from Submit to the first step
  prometheus::Histogram& first_token_seconds;  // from Submit
  prometheus::Histogram& inter_token_seconds;
  prometheus::Counter& preemptions;
  prometheus::Counter& failovers;        // queries that went on at another expert worker
  prometheus::Counter& hung_swaps;       // that were away for longer than EngineOptions::hung_after
  prometheus::Counter& finished_stop;    // end of sequence, stop token or stop string
  prometheus::Counter& finished_length;  // max_tokens or the context's end
  prometheus::Counter& finished_error;   // errors, deadlines, cancellations
  prometheus::Counter& prompt_tokens;
  prometheus::Counter& generated_tokens;
  prometheus::Counter& swap_bytes_out;         // activations sent to expert workers
  prometheus::Counter& swap_bytes_in;          // and those that came back
  prometheus::Histogram& swap_seconds;         // there and back
  prometheus::Histogram& swap_expert_seconds;  // of it, computing on the expert worker
  LabelledCounter failed_swaps;                // by reason

 private:
  BackboneMetrics(prometheus::Registry& registry, const prometheus::Labels& labels);
};

// Of the MoE layers of one backbone worker. The series are few whatever the model: one a layer, and
// those of the hottest experts by rank; the full counts are behind Control.GetMoeStatistics.
struct MoeMetrics {
  static constexpr int kHotExperts = 5;

  // One of the experts that the greatest shares of their layers' rows choose.
  struct HotExpert {
    HotExpert(prometheus::Registry& registry, const prometheus::Labels& labels);

    prometheus::Gauge& share;  // of the rows of its layer
    prometheus::Gauge& layer;  // -1: none
    prometheus::Gauge& index;
  };

  MoeMetrics(prometheus::Registry& registry, const std::string& worker);

  prometheus::Counter& routed_pairs;  // (row, expert)
  GaugeByLayer balancedness;
  std::vector<HotExpert> hot_experts;  // kHotExperts, hottest first

 private:
  MoeMetrics(prometheus::Registry& registry, const prometheus::Labels& labels);
};

// Of one expert worker.
struct ExpertMetrics {
  ExpertMetrics(prometheus::Registry& registry, const std::string& worker);

  prometheus::Gauge& held_experts;
  prometheus::Gauge& weight_bytes;
  prometheus::Gauge& kv_used_tokens;
  prometheus::Gauge& kv_total_tokens;
  prometheus::Gauge& waiting_rows;
  prometheus::Counter& swaps;
  prometheus::Counter& rows;
  prometheus::Counter& batches;  // rows / batches is the mean batch

 private:
  ExpertMetrics(prometheus::Registry& registry, const prometheus::Labels& labels);
};

// Raises `counter` to `total`, a count since the process started that somebody else keeps. Calls
// for one counter must not overlap.
void RaiseTo(prometheus::Counter& counter, double total);

// All metrics of one process: the roles that run in it, and the process itself. Tests make their
// own. Thread-safe.
class Metrics final : public prometheus::Collectable {
 public:
  Metrics();

  // Made at the first call; live as long as this object. A worker's metrics carry its id as the
  // label "worker".
  GatewayMetrics& gateway() ABSL_LOCKS_EXCLUDED(mutex_);
  RouterMetrics& router() ABSL_LOCKS_EXCLUDED(mutex_);
  BackboneMetrics& backbone(const std::string& worker) ABSL_LOCKS_EXCLUDED(mutex_);
  // Of a backbone worker whose model has MoE layers.
  MoeMetrics& moe(const std::string& worker) ABSL_LOCKS_EXCLUDED(mutex_);
  ExpertMetrics& expert(const std::string& worker) ABSL_LOCKS_EXCLUDED(mutex_);

  // Calls `sample` before every scrape, to bring gauges up to date; until the returned token is
  // destroyed, which waits for a call that runs. `sample` must be quick and must not touch
  // samplers. The token must not outlive this object.
  class Sampler {
   public:
    virtual ~Sampler() = default;
  };
  std::unique_ptr<Sampler> AddSampler(std::function<void()> sample)
      ABSL_LOCKS_EXCLUDED(samplers_mutex_);

  // What /metrics shows, brought up to date.
  std::vector<prometheus::MetricFamily> Collect() const override
      ABSL_LOCKS_EXCLUDED(samplers_mutex_);

  // The text that /metrics answers with.
  std::string Text() const;

 private:
  class Registered;

  prometheus::Registry registry_;
  prometheus::Gauge* resident_bytes_;
  prometheus::Gauge* serving_allocations_;
  absl::Mutex mutex_;
  std::unique_ptr<GatewayMetrics> gateway_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<RouterMetrics> router_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::unique_ptr<BackboneMetrics>> backbones_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::unique_ptr<MoeMetrics>> moes_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::unique_ptr<ExpertMetrics>> experts_ ABSL_GUARDED_BY(mutex_);
  mutable absl::Mutex samplers_mutex_;
  int next_sampler_ ABSL_GUARDED_BY(samplers_mutex_) = 0;
  std::map<int, std::function<void()>> samplers_ ABSL_GUARDED_BY(samplers_mutex_);
};

}  // namespace ccoe::telemetry

#endif  // CCOE_RUNTIME_TELEMETRY_METRICS_H_
