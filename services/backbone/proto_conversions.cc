// SPDX-License-Identifier: Apache-2.0
#include "services/backbone/proto_conversions.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "runtime/base/status_macros.h"

namespace ccoe::services {
namespace {

// `Part` is MoeControl or LayerMoeControl: the fields have the same names.
template <typename Part>
engine::LayerMoeControl PartFromProto(const Part& proto) {
  engine::LayerMoeControl part;
  part.active_experts = proto.active_experts();
  part.masked.assign(proto.masked_experts().begin(), proto.masked_experts().end());
  part.forced.assign(proto.forced_experts().begin(), proto.forced_experts().end());
  return part;
}

template <typename Part>
void PartToProto(const engine::LayerMoeControl& part, Part& proto) {
  proto.set_active_experts(part.active_experts);
  proto.mutable_masked_experts()->Add(part.masked.begin(), part.masked.end());
  proto.mutable_forced_experts()->Add(part.forced.begin(), part.forced.end());
}

absl::StatusOr<engine::LayerMoeCounts> CountsFromProto(const v1::MoeLayerStatistics& proto) {
  engine::LayerMoeCounts counts;
  counts.layer = proto.layer();
  counts.rows = proto.rows();
  counts.tokens.assign(proto.tokens().begin(), proto.tokens().end());
  counts.pairs.assign(proto.co_activation().begin(), proto.co_activation().end());
  const int64_t pairs = engine::PairCount(counts.experts());
  if (!counts.pairs.empty() && static_cast<int64_t>(counts.pairs.size()) != pairs) {
    return absl::InvalidArgumentError(absl::StrCat("expected co-activation counts of ", pairs,
                                                   " pairs of ", counts.experts(),
                                                   " experts, found ", counts.pairs.size()));
  }
  const auto most = std::max_element(counts.tokens.begin(), counts.tokens.end());
  if (most != counts.tokens.end() && *most > counts.rows) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected at most ", counts.rows, " tokens (the rows) for expert ",
                     most - counts.tokens.begin(), ", found ", *most));
  }
  return counts;
}

}  // namespace

engine::SamplingParams SamplingFromProto(const v1::Sampling& sampling) {
  engine::SamplingParams params;
  if (sampling.has_temperature()) params.temperature = sampling.temperature();
  if (sampling.has_top_k()) params.top_k = sampling.top_k();
  if (sampling.has_top_p()) params.top_p = sampling.top_p();
  if (sampling.has_min_p()) params.min_p = sampling.min_p();
  if (sampling.has_repetition_penalty()) {
    params.repetition_penalty = sampling.repetition_penalty();
  }
  if (sampling.has_presence_penalty()) params.presence_penalty = sampling.presence_penalty();
  if (sampling.has_frequency_penalty()) params.frequency_penalty = sampling.frequency_penalty();
  if (sampling.has_seed()) params.seed = sampling.seed();
  params.stop_token_ids.assign(sampling.stop_token_ids().begin(), sampling.stop_token_ids().end());
  params.ignore_eos = sampling.ignore_eos();
  params.min_tokens = sampling.min_tokens();
  if (sampling.has_max_tokens()) params.max_tokens = sampling.max_tokens();
  if (sampling.has_logprobs()) params.logprobs = sampling.logprobs();
  return params;
}

v1::Expert ExpertToProto(const ExpertRef& expert) {
  v1::Expert proto;
  proto.set_name(expert.name);
  proto.set_version(expert.version);
  return proto;
}

ExpertRef ExpertFromProto(const v1::Expert& expert) {
  return ExpertRef{expert.name(), expert.version()};
}

v1::Token TokenToProto(const engine::GeneratedToken& token) {
  v1::Token proto;
  proto.set_id(token.token_id);
  if (token.logprob.has_value()) proto.set_logprob(*token.logprob);
  for (const engine::TokenLogprob& best : token.best) {
    v1::TokenLogprob* entry = proto.add_best();
    entry->set_token_id(best.token_id);
    entry->set_logprob(best.logprob);
  }
  return proto;
}

v1::Usage UsageToProto(const engine::Usage& usage) {
  v1::Usage proto;
  proto.set_prompt_tokens(usage.prompt_tokens);
  proto.set_generated_tokens(usage.generated_tokens);
  proto.set_queue_seconds(absl::ToDoubleSeconds(usage.queue_time));
  proto.set_prefill_seconds(absl::ToDoubleSeconds(usage.prefill_time));
  proto.set_decode_seconds(absl::ToDoubleSeconds(usage.decode_time));
  proto.set_preemptions(usage.preemptions);
  proto.set_failovers(usage.failovers);
  proto.set_numerics_changed(usage.numerics_changed);
  return proto;
}

v1::FinishReason FinishReasonToProto(engine::FinishReason reason) {
  switch (reason) {
    case engine::FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case engine::FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case engine::FinishReason::kCancelled:
    case engine::FinishReason::kError:
      break;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

absl::StatusOr<engine::EngineRequest> QueryFromProto(const v1::BackboneGenerateRequest& request) {
  engine::EngineRequest query;
  query.query_id = request.request_id();
  query.prompt.assign(request.prompt().begin(), request.prompt().end());
  query.sampling = SamplingFromProto(request.sampling());
  CCOE_ASSIGN_OR_RETURN(query.moe, MoeControlFromProto(request.moe()));
  if (request.expert().name().empty()) return query;
  const std::string name = ExpertFromProto(request.expert()).ToString();
  absl::StatusOr<ExpertRef> expert = ExpertRef::Parse(name);
  if (!expert.ok()) return Annotate(expert.status(), absl::StrCat("expert \"", name, "\""));
  query.expert = *std::move(expert);
  return query;
}

absl::StatusOr<std::shared_ptr<const engine::MoeControl>> MoeControlFromProto(
    const v1::MoeControl& proto) {
  engine::MoeControl control;
  control.all_layers = PartFromProto(proto);
  for (const v1::LayerMoeControl& layer : proto.layers()) {
    if (!control.layers.emplace(layer.layer(), PartFromProto(layer)).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("moe: layer ", layer.layer(), " stands there twice"));
    }
  }
  if (control.empty()) return nullptr;
  return std::make_shared<const engine::MoeControl>(std::move(control));
}

v1::MoeControl MoeControlToProto(const engine::MoeControl& control) {
  v1::MoeControl proto;
  PartToProto(control.all_layers, proto);
  for (const auto& [layer, part] : control.layers) {
    v1::LayerMoeControl* layer_proto = proto.add_layers();
    layer_proto->set_layer(layer);
    PartToProto(part, *layer_proto);
  }
  return proto;
}

v1::MoeStatistics MoeSnapshotToProto(const engine::MoeSnapshot& snapshot,
                                     const v1::GetMoeStatisticsRequest& request) {
  v1::MoeStatistics proto;
  for (const engine::LayerMoeCounts& counts : snapshot.layers) {
    if (request.has_layer() && request.layer() != counts.layer) continue;
    v1::MoeLayerStatistics* layer = proto.add_layers();
    layer->set_layer(counts.layer);
    layer->set_rows(counts.rows);
    layer->mutable_tokens()->Add(counts.tokens.begin(), counts.tokens.end());
    if (!request.co_activation()) continue;
    layer->mutable_co_activation()->Add(counts.pairs.begin(), counts.pairs.end());
  }
  return proto;
}

absl::StatusOr<engine::MoeSnapshot> MoeSnapshotFromProto(const v1::MoeStatistics& proto) {
  engine::MoeSnapshot snapshot;
  for (const v1::MoeLayerStatistics& layer : proto.layers()) {
    const std::string where = absl::StrCat("MoE statistics of layer ", layer.layer());
    if (!snapshot.layers.empty() && layer.layer() <= snapshot.layers.back().layer) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": expected one after layer ", snapshot.layers.back().layer));
    }
    absl::StatusOr<engine::LayerMoeCounts> counts = CountsFromProto(layer);
    if (!counts.ok()) return Annotate(counts.status(), where);
    snapshot.layers.push_back(*std::move(counts));
  }
  return snapshot;
}

}  // namespace ccoe::services
