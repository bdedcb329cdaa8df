// SPDX-License-Identifier: Apache-2.0
#include "runtime/telemetry/metrics.h"

#include <prometheus/text_serializer.h>

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "kernels/serving_thread.h"
#include "runtime/telemetry/process_info.h"

namespace ccoe::telemetry {
namespace {

using ::prometheus::BuildCounter;
using ::prometheus::BuildGauge;
using ::prometheus::BuildHistogram;
using ::prometheus::Counter;
using ::prometheus::Family;
using ::prometheus::Gauge;
using ::prometheus::Histogram;
using ::prometheus::Labels;
using ::prometheus::Registry;

using Buckets = Histogram::BucketBoundaries;

// Seconds. The steps are those that dashboards for vLLM and SGLang use.
const Buckets& FirstTokenBuckets() {
  static const auto& buckets =
      *new Buckets{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                   1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
  return buckets;
}
const Buckets& InterTokenBuckets() {
  static const auto& buckets =
      *new Buckets{.002, .004, .006, .008, .01, .015, .02, .025, .03, .035, .04, .06,
                   .08,  .1,   .2,   .4,   .6,  .8,   1,   2,    4,   6,    8};
  return buckets;
}
const Buckets& RequestBuckets() {
  static const auto& buckets = *new Buckets{.05, .1, .2, .3, .5, .8, 1,  1.5, 2,   2.5, 5,
                                            10,  15, 20, 30, 40, 50, 60, 120, 240, 480, 960};
  return buckets;
}
const Buckets& QueueBuckets() {
  static const auto& buckets =
      *new Buckets{.001, .005, .01, .05, .1, .3, .5, 1, 2.5, 5, 10, 30, 60, 120};
  return buckets;
}
// A step, a swap, a decision: from 0.1 ms.
const Buckets& ShortBuckets() {
  static const auto& buckets =
      *new Buckets{.0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10};
  return buckets;
}
const Buckets& RowBuckets() {
  static const auto& buckets =
      *new Buckets{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096};
  return buckets;
}

Family<Counter>& CounterFamily(Registry& registry, const std::string& name,
                               const std::string& help) {
  return BuildCounter().Name(name).Help(help).Register(registry);
}
Counter& AddCounter(Registry& registry, const std::string& name, const std::string& help,
                    const Labels& labels = {}) {
  return CounterFamily(registry, name, help).Add(labels);
}
Gauge& AddGauge(Registry& registry, const std::string& name, const std::string& help,
                const Labels& labels = {}) {
  return BuildGauge().Name(name).Help(help).Register(registry).Add(labels);
}
Histogram& AddHistogram(Registry& registry, const std::string& name, const std::string& help,
                        const Buckets& buckets, const Labels& labels = {}) {
  return BuildHistogram().Name(name).Help(help).Register(registry).Add(labels, buckets);
}

Labels With(Labels labels, const std::string& key, const std::string& value) {
  labels[key] = value;
  return labels;
}

constexpr char kDecisionsHelp[] =
    "Routing decisions by reason: explicit, rule, default (no rule matched) or fallback (a rule "
    "named an expert that no "
    "worker holds).";
constexpr char kRegisteredHelp[] = "Workers whose lease runs, by role.";
constexpr char kReadyHelp[] = "Workers that take queries, by role.";
constexpr char kFinishedHelp[] = "Queries that ended, by reason: stop, length or error.";
constexpr char kSwapBytesHelp[] =
    "Activation bytes swapped with expert workers, by direction: out to them, or in from them.";

}  // namespace

void LabelledCounter::Increment(const std::string& value) {
  family_.Add(With(labels_, label_, value)).Increment();
}

void LabelledCounter::Increment(absl::StatusCode code) {
  Increment(absl::AsciiStrToLower(absl::StatusCodeToString(code)));
}

GatewayMetrics::GatewayMetrics(Registry& registry)
    : requests(CounterFamily(registry, "ccoe_gateway_requests_total",
                             "Generate calls that ended, by status code.")),
      running_requests(
          AddGauge(registry, "ccoe_gateway_running_requests", "Generate calls open now.")),
      first_token_seconds(AddHistogram(registry, "ccoe_gateway_first_token_seconds",
                                       "From a request's arrival to its first token.",
                                       FirstTokenBuckets())),
      inter_token_seconds(AddHistogram(registry, "ccoe_gateway_inter_token_seconds",
                                       "Between two tokens of one answer.", InterTokenBuckets())),
      request_seconds(AddHistogram(registry, "ccoe_gateway_request_seconds",
                                   "From a request's arrival to its last message.",
                                   RequestBuckets())),
      queue_seconds(AddHistogram(registry, "ccoe_gateway_queue_seconds",
                                 "What requests waited for admission on the backbone worker.",
                                 QueueBuckets())),
      prompt_tokens(AddCounter(registry, "ccoe_gateway_prompt_tokens_total",
                               "Prompt tokens of requests that ended well.")),
      generated_tokens(AddCounter(registry, "ccoe_gateway_generated_tokens_total",
                                  "Tokens streamed to clients.")) {}

RouterMetrics::RouterMetrics(Registry& registry)
    : explicit_decisions(AddCounter(registry, "ccoe_router_decisions_total", kDecisionsHelp,
                                    {{"reason", "explicit"}})),
      rule_decisions(AddCounter(registry, "ccoe_router_decisions_total", kDecisionsHelp,
                                {{"reason", "rule"}})),
      default_decisions(AddCounter(registry, "ccoe_router_decisions_total", kDecisionsHelp,
                                   {{"reason", "default"}})),
      fallback_decisions(AddCounter(registry, "ccoe_router_decisions_total", kDecisionsHelp,
                                    {{"reason", "fallback"}})),
      failed_routes(CounterFamily(registry, "ccoe_router_failed_routes_total",
                                  "Route calls that ended with an error, by status code.")),
      route_seconds(AddHistogram(registry, "ccoe_router_route_seconds", "Time of a Route call.",
                                 ShortBuckets())),
      registered_backbones(AddGauge(registry, "ccoe_router_registered_workers", kRegisteredHelp,
                                    {{"role", "backbone"}})),
      registered_experts(AddGauge(registry, "ccoe_router_registered_workers", kRegisteredHelp,
                                  {{"role", "expert"}})),
      ready_backbones(
          AddGauge(registry, "ccoe_router_ready_workers", kReadyHelp, {{"role", "backbone"}})),
      ready_experts(
          AddGauge(registry, "ccoe_router_ready_workers", kReadyHelp, {{"role", "expert"}})),
      held_experts(AddGauge(registry, "ccoe_router_held_experts",
                            "Different experts (name and version) that ready workers hold.")),
      table_epoch(AddGauge(registry, "ccoe_router_table_epoch",
                           "Epoch of the expert table; rises with every change.")),
      expired_leases(AddCounter(registry, "ccoe_router_expired_leases_total",
                                "Workers that were forgotten because they fell silent.")),
      refused_workers(AddCounter(registry, "ccoe_router_refused_workers_total",
                                 "Registrations refused: protocol version, model, report.")) {}

BackboneMetrics::BackboneMetrics(Registry& registry, const std::string& worker)
    : BackboneMetrics(registry, Labels{{"worker", worker}}) {}

BackboneMetrics::BackboneMetrics(Registry& registry, const Labels& labels)
    : waiting_queries(AddGauge(registry, "ccoe_backbone_waiting_queries",
                               "Queries that wait for admission.", labels)),
      running_queries(AddGauge(registry, "ccoe_backbone_running_queries",
                               "Queries that are being computed.", labels)),
      kv_used_tokens(
          AddGauge(registry, "ccoe_backbone_kv_used_tokens", "Tokens of KV cache in use.", labels)),
      kv_total_tokens(AddGauge(registry, "ccoe_backbone_kv_total_tokens",
                               "Tokens that the KV cache holds.", labels)),
      step_rows(AddHistogram(registry, "ccoe_backbone_step_rows", "Tokens of one step.",
                             RowBuckets(), labels)),
      step_sequences(AddHistogram(registry, "ccoe_backbone_step_sequences",
                                  "Sequences of one step.", RowBuckets(), labels)),
      step_seconds(AddHistogram(registry, "ccoe_backbone_step_seconds",
                                "From a step's forming to its last rows.", ShortBuckets(), labels)),
      queue_seconds(AddHistogram(registry, "ccoe_backbone_queue_seconds",
                                 "What queries waited for admission.", QueueBuckets(), labels)),
      first_token_seconds(AddHistogram(registry, "ccoe_backbone_first_token_seconds",
                                       "From a query's arrival to its first token.",
                                       FirstTokenBuckets(), labels)),
      inter_token_seconds(AddHistogram(registry, "ccoe_backbone_inter_token_seconds",
                                       "Between two tokens of one query.", InterTokenBuckets(),
                                       labels)),
      preemptions(AddCounter(registry, "ccoe_backbone_preemptions_total",
                             "Times that a query was computed again from its first token: for want "
                             "of KV pages, or as a worker or its KV was lost.",
                             labels)),
      failovers(AddCounter(registry, "ccoe_backbone_failovers_total",
                           "Queries that went on at another expert worker.", labels)),
      hung_swaps(AddCounter(registry, "ccoe_backbone_hung_swaps_total",
                            "Swaps that were away for longer than two seconds.", labels)),
      finished_stop(AddCounter(registry, "ccoe_backbone_finished_queries_total", kFinishedHelp,
                               With(labels, "reason", "stop"))),
      finished_length(AddCounter(registry, "ccoe_backbone_finished_queries_total", kFinishedHelp,
                                 With(labels, "reason", "length"))),
      finished_error(AddCounter(registry, "ccoe_backbone_finished_queries_total", kFinishedHelp,
                                With(labels, "reason", "error"))),
      prompt_tokens(AddCounter(registry, "ccoe_backbone_prompt_tokens_total",
                               "Prompt tokens of queries that ended.", labels)),
      generated_tokens(AddCounter(registry, "ccoe_backbone_generated_tokens_total",
                                  "Tokens sampled for queries that ended.", labels)),
      swap_bytes_out(AddCounter(registry, "ccoe_backbone_swap_bytes_total", kSwapBytesHelp,
                                With(labels, "direction", "out"))),
      swap_bytes_in(AddCounter(registry, "ccoe_backbone_swap_bytes_total", kSwapBytesHelp,
                               With(labels, "direction", "in"))),
      swap_seconds(AddHistogram(registry, "ccoe_backbone_swap_seconds",
                                "From a swap's sending to its answer.", ShortBuckets(), labels)),
      swap_expert_seconds(AddHistogram(registry, "ccoe_backbone_swap_expert_seconds",
                                       "Of a swap, computing on the expert worker.", ShortBuckets(),
                                       labels)),
      failed_swaps(CounterFamily(registry, "ccoe_backbone_failed_swaps_total",
                                 "Swaps that were not computed, by reason."),
                   labels, "reason") {}

void GaugeByLayer::Set(int32_t layer, double value) {
  family_.Add(With(labels_, "layer", absl::StrCat(layer))).Set(value);
}

MoeMetrics::HotExpert::HotExpert(Registry& registry, const Labels& labels)
    : share(AddGauge(registry, "ccoe_backbone_moe_hot_expert_share_ratio",
                     "Of the rows of its layer, those that chose the expert of this rank.",
                     labels)),
      layer(AddGauge(registry, "ccoe_backbone_moe_hot_expert_layer_index",
                     "Layer of the expert of this rank; -1: none.", labels)),
      index(AddGauge(registry, "ccoe_backbone_moe_hot_expert_index",
                     "Index in its layer of the expert of this rank; -1: none.", labels)) {}

MoeMetrics::MoeMetrics(Registry& registry, const std::string& worker)
    : MoeMetrics(registry, Labels{{"worker", worker}}) {}

MoeMetrics::MoeMetrics(Registry& registry, const Labels& labels)
    : routed_pairs(AddCounter(registry, "ccoe_backbone_moe_routed_pairs_total",
                              "Pairs of a row and an FFN expert that its gate chose.", labels)),
      balancedness(
          BuildGauge()
              .Name("ccoe_backbone_moe_balancedness_ratio")
              .Help("Of a layer: mean over greatest number of rows of an expert; 1 is even.")
              .Register(registry),
          labels) {
  for (int rank = 1; rank <= kHotExperts; ++rank) {
    hot_experts.emplace_back(registry, With(labels, "rank", absl::StrCat(rank)));
  }
}

ExpertMetrics::ExpertMetrics(Registry& registry, const std::string& worker)
    : ExpertMetrics(registry, Labels{{"worker", worker}}) {}

ExpertMetrics::ExpertMetrics(Registry& registry, const Labels& labels)
    : held_experts(
          AddGauge(registry, "ccoe_expert_held_experts", "Experts that the worker holds.", labels)),
      weight_bytes(AddGauge(registry, "ccoe_expert_weight_bytes",
                            "Bytes of all held experts' weights.", labels)),
      kv_used_tokens(AddGauge(registry, "ccoe_expert_kv_used_tokens",
                              "Tokens of KV cache in use, over all experts.", labels)),
      kv_total_tokens(AddGauge(registry, "ccoe_expert_kv_total_tokens",
                               "Tokens that the KV caches of all experts hold.", labels)),
      waiting_rows(AddGauge(registry, "ccoe_expert_waiting_rows",
                            "Rows that wait to be computed, over all experts.", labels)),
      swaps(AddCounter(registry, "ccoe_expert_swaps_total", "Swaps answered.", labels)),
      rows(AddCounter(registry, "ccoe_expert_rows_total", "Rows computed.", labels)),
      batches(AddCounter(registry, "ccoe_expert_batches_total",
                         "Batches computed; rows by batches is the mean batch.", labels)) {}

void RaiseTo(Counter& counter, double total) {
  const double more = total - counter.Value();
  if (more > 0) counter.Increment(more);
}

// Removes its sampler when it goes.
class Metrics::Registered final : public Metrics::Sampler {
 public:
  Registered(Metrics* metrics, int number) : metrics_(metrics), number_(number) {}
  ~Registered() override {
    absl::MutexLock lock(&metrics_->samplers_mutex_);
    metrics_->samplers_.erase(number_);
  }

 private:
  Metrics* const metrics_;
  const int number_;
};

Metrics::Metrics()
    : resident_bytes_(&AddGauge(registry_, "ccoe_process_resident_bytes",
                                "Resident memory of the process, mapped files included.")),
      serving_allocations_(
          &AddGauge(registry_, "ccoe_process_serving_allocations",
                    "Allocations of device memory while serving: 0 where memory plans held.")) {
  AddGauge(registry_, "ccoe_process_start_time_seconds",
           "When the process made its metrics, in seconds since 1970.")
      .Set(absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()));
  AddGauge(registry_, "ccoe_build_info", "1; the labels say what runs.", {{"version", kVersion}})
      .Set(1);
}

GatewayMetrics& Metrics::gateway() {
  absl::MutexLock lock(&mutex_);
  if (gateway_ == nullptr) gateway_ = std::make_unique<GatewayMetrics>(registry_);
  return *gateway_;
}

RouterMetrics& Metrics::router() {
  absl::MutexLock lock(&mutex_);
  if (router_ == nullptr) router_ = std::make_unique<RouterMetrics>(registry_);
  return *router_;
}

BackboneMetrics& Metrics::backbone(const std::string& worker) {
  absl::MutexLock lock(&mutex_);
  auto& metrics = backbones_[worker];
  if (metrics == nullptr) metrics = std::make_unique<BackboneMetrics>(registry_, worker);
  return *metrics;
}

MoeMetrics& Metrics::moe(const std::string& worker) {
  absl::MutexLock lock(&mutex_);
  auto& metrics = moes_[worker];
  if (metrics == nullptr) metrics = std::make_unique<MoeMetrics>(registry_, worker);
  return *metrics;
}

ExpertMetrics& Metrics::expert(const std::string& worker) {
  absl::MutexLock lock(&mutex_);
  auto& metrics = experts_[worker];
  if (metrics == nullptr) metrics = std::make_unique<ExpertMetrics>(registry_, worker);
  return *metrics;
}

std::unique_ptr<Metrics::Sampler> Metrics::AddSampler(std::function<void()> sample) {
  absl::MutexLock lock(&samplers_mutex_);
  const int number = next_sampler_++;
  samplers_.emplace(number, std::move(sample));
  return std::make_unique<Registered>(this, number);
}

std::vector<prometheus::MetricFamily> Metrics::Collect() const {
  {
    absl::MutexLock lock(&samplers_mutex_);
    for (const auto& [number, sample] : samplers_) sample();
  }
  resident_bytes_->Set(static_cast<double>(ResidentBytes()));
  serving_allocations_->Set(static_cast<double>(kernels::AllocationsWhileServing()));
  return registry_.Collect();
}

std::string Metrics::Text() const { return prometheus::TextSerializer().Serialize(Collect()); }

}  // namespace ccoe::telemetry
