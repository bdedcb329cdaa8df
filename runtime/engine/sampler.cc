// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/sampler.h"

#include "absl/strings/str_cat.h"

namespace ccoe::engine {
namespace {

// The finaliser of MurmurHash3: each input bit reaches each output bit.
uint64_t Mix(uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdULL;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53ULL;
  return x ^ (x >> 33);
}

}  // namespace

bool NeedsCounts(const SamplingParams& params) {
  return params.repetition_penalty != 1.0f || params.presence_penalty != 0.0f ||
         params.frequency_penalty != 0.0f;
}

double UniformAt(uint64_t seed, int64_t position) {
  const uint64_t key = Mix(seed + 0x9e3779b97f4a7c15ULL);
  const uint64_t bits = Mix(key ^ Mix(static_cast<uint64_t>(position) + 0xd1b54a32d192ed03ULL));
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

kernels::SampleRow SampleRowFor(const SampleRequest& request) {
  const SamplingParams& params = *request.params;
  kernels::SampleRow row;
  row.temperature = params.temperature;
  row.top_k = params.top_k;
  row.top_p = params.top_p;
  row.min_p = params.min_p;
  row.repetition_penalty = params.repetition_penalty;
  row.presence_penalty = params.presence_penalty;
  row.frequency_penalty = params.frequency_penalty;
  if (NeedsCounts(params) && request.counts != nullptr) row.counts = request.counts->entries();
  row.held_back = request.held_back;
  row.uniform = UniformAt(request.seed, request.position);
  row.logprobs = params.logprobs;
  return row;
}

absl::StatusOr<GeneratedToken> TokenOf(const SampleRequest& request,
                                       const kernels::SampledRow& sampled) {
  if (sampled.nonfinite_id >= 0) {
    return absl::InternalError(absl::StrCat("logits for position ", request.position,
                                            ": expected finite numbers, found NaN or an infinity "
                                            "at token id ",
                                            sampled.nonfinite_id));
  }
  if (sampled.token_id < 0) {
    return absl::InternalError(
        absl::StrCat("position ", request.position, ": every token id is held back (min_tokens)"));
  }
  GeneratedToken token;
  token.token_id = sampled.token_id;
  if (request.params->logprobs >= 0) token.logprob = sampled.logprob;
  for (const kernels::TokenLogprob& best : sampled.best) {
    token.best.push_back({best.id, best.logprob});
  }
  return token;
}

}  // namespace ccoe::engine
