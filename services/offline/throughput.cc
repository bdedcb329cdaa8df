// SPDX-License-Identifier: Apache-2.0
#include "services/offline/throughput.h"

#include <algorithm>
#include <memory>
#include <random>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/time/clock.h"
#include "runtime/base/status_macros.h"

namespace ccoe::services {
namespace {

int64_t LayerParameters(const model::ModelSpec& spec, const model::LayerSpec& layer) {
  const model::AttentionSpec& a = layer.attention;
  const int64_t attention = spec.hidden_size * a.head_dim * (2 * a.heads + 2 * a.kv_heads);
  return attention + 3 * spec.hidden_size * layer.ffn.intermediate + 2 * spec.hidden_size;
}

int64_t AllLayers(const model::ModelSpec& spec) {
  int64_t sum = 0;
  for (const model::LayerSpec& layer : spec.layers) sum += LayerParameters(spec, layer);
  return sum;
}

int64_t HeadParameters(const model::ModelSpec& spec) { return spec.vocab_size * spec.hidden_size; }

// When a query's tokens came.
struct Timeline {
  std::vector<absl::Time> tokens;
  absl::Status status;
};

class TimingSink final : public engine::TokenSink {
 public:
  TimingSink(Timeline* timeline, absl::BlockingCounter* left) : timeline_(timeline), left_(left) {}
  void OnToken(const engine::GeneratedToken& token) override {
    timeline_->tokens.push_back(absl::Now());
  }
  void OnFinish(engine::FinishReason reason, const absl::Status& status,
                const engine::Usage& usage) override {
    timeline_->status = status;
    left_->DecrementCount();
  }

 private:
  Timeline* const timeline_;
  absl::BlockingCounter* const left_;
};

engine::EngineRequest Query(const model::ModelSpec& spec, const LoadShape& load, int64_t index) {
  std::mt19937_64 random(load.seed * 1000003 + static_cast<uint64_t>(index));
  engine::EngineRequest query;
  query.query_id = absl::StrCat("load-", index);
  for (int64_t t = 0; t < load.prompt_tokens; ++t) {
    query.prompt.push_back(static_cast<int32_t>(random() % static_cast<uint64_t>(spec.vocab_size)));
  }
  if (!load.experts.empty()) query.expert = load.experts[index % load.experts.size()];
  query.sampling.temperature = 0;
  query.sampling.ignore_eos = true;
  query.sampling.max_tokens = load.new_tokens;
  return query;
}

// Tokens that came after `begin` and not after `end`.
int64_t TokensWithin(const std::vector<Timeline>& timelines, absl::Time begin, absl::Time end) {
  int64_t tokens = 0;
  for (const Timeline& timeline : timelines) {
    for (absl::Time at : timeline.tokens) tokens += at > begin && at <= end;
  }
  return tokens;
}

}  // namespace

int64_t ParametersTouched(const model::ModelSpec& spec) {
  return AllLayers(spec) + HeadParameters(spec) + spec.hidden_size;
}

int64_t ParametersTotal(const model::ModelSpec& spec) {
  return ParametersTouched(spec) + (spec.tied_head ? 0 : HeadParameters(spec));
}

int64_t DecodeBytes(const model::ModelSpec& spec, int64_t bytes_per_weight) {
  return ParametersTouched(spec) * bytes_per_weight;
}

double PrefillFlops(const model::ModelSpec& spec, int64_t tokens) {
  double flops = 2.0 * static_cast<double>(AllLayers(spec)) * static_cast<double>(tokens);
  flops += 2.0 * static_cast<double>(HeadParameters(spec));
  for (const model::LayerSpec& layer : spec.layers) {
    const double width = static_cast<double>(layer.attention.heads * layer.attention.head_dim);
    flops += 2.0 * width * static_cast<double>(tokens) * static_cast<double>(tokens + 1);
  }
  return flops;
}

absl::StatusOr<Throughput> MeasureThroughput(engine::Engine& engine, const model::ModelSpec& spec,
                                             const LoadShape& load) {
  std::vector<Timeline> timelines(load.queries);
  absl::BlockingCounter left(static_cast<int>(load.queries));
  const absl::Time start = absl::Now();
  for (int64_t i = 0; i < load.queries; ++i) {
    const auto handle =
        engine.Submit(Query(spec, load, i), std::make_unique<TimingSink>(&timelines[i], &left));
    if (handle.ok()) continue;
    timelines[i].status = handle.status();
    left.DecrementCount();
  }
  left.Wait();

  absl::Time first = start, last = absl::InfiniteFuture();
  absl::Time earliest = absl::InfiniteFuture(), latest = start;
  for (const Timeline& timeline : timelines) {
    CCOE_RETURN_IF_ERROR_IN(timeline.status, "load query");
    if (timeline.tokens.size() < 2) {
      return absl::InvalidArgumentError("new_tokens: expected 2 or more");
    }
    first = std::max(first, timeline.tokens.front());
    last = std::min(last, timeline.tokens.back());
    earliest = std::min(earliest, timeline.tokens.front());
    latest = std::max(latest, timeline.tokens.back());
  }
  Throughput throughput;
  throughput.prefill_tokens_per_second =
      static_cast<double>(load.queries * load.prompt_tokens) / absl::ToDoubleSeconds(first - start);
  // Answers so short that they never all ran together: over the whole time then.
  const absl::Time begin = last > first ? first : earliest;
  const absl::Time end = last > first ? last : latest;
  throughput.decode_tokens_per_second =
      static_cast<double>(TokensWithin(timelines, begin, end)) / absl::ToDoubleSeconds(end - begin);
  return throughput;
}

}  // namespace ccoe::services
