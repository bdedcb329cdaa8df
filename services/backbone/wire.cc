#include "services/backbone/wire.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "runtime/base/status_macros.h"
#include "services/backbone/moe_wire.h"

namespace ccoe::services {

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

}  // namespace ccoe::services
