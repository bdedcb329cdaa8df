// Between a query and the sampling op (kernels/sample.h): what its next token is chosen by, and the
// token or the error that came of it.
//
// The draw is a function of (seed, position) alone: no generator state, so that a query gets the
// same tokens whatever else runs and after it was recomputed.
#ifndef CCOE_RUNTIME_ENGINE_SAMPLER_H_
#define CCOE_RUNTIME_ENGINE_SAMPLER_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/sample.h"
#include "runtime/engine/request.h"
#include "runtime/engine/sampling.h"
#include "runtime/engine/token_counts.h"

namespace ccoe::engine {

struct SampleRequest {
  const SamplingParams* params = nullptr;  // passed Validate
  const TokenCounts* counts = nullptr;     // needed where NeedsCounts(*params)
  absl::Span<const int32_t> held_back;     // ids that may not be chosen (min_tokens)
  uint64_t seed = 0;
  int64_t position = 0;  // of the token to choose, in prompt and answer
};

// Whether a penalty is in force.
bool NeedsCounts(const SamplingParams& params);

// Uniform in [0, 1), by hashing (seed, position).
double UniformAt(uint64_t seed, int64_t position);

// Views the request's counts and ids.
kernels::SampleRow SampleRowFor(const SampleRequest& request);

// What the op found for the request's row. INTERNAL where a logit is NaN or infinite, or every id
// is held back.
absl::StatusOr<GeneratedToken> TokenOf(const SampleRequest& request,
                                       const kernels::SampledRow& sampled);

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_SAMPLER_H_
