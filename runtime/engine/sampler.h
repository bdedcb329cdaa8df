// SPDX-License-Identifier: Apache-2.0
// Between a query and the sampling op (kernels/sample.h): what its next token is chosen by, and the
// token or the error that came of it.
//
// The draw is a function of (seed, position) alone: no generator state, so that a query gets the
// same tokens whatever else runs and after it was recomputed.
#ifndef CCOE_RUNTIME_ENGINE_SAMPLER_H_
#define CCOE_RUNTIME_ENGINE_SAMPLER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/sample.h"
#include "runtime/engine/request.h"
#include "runtime/engine/sampler.h"

namespace ccoe::engine {

// Not thread-safe.
class TokenCounts {
 public:
  void AddPrompt(absl::Span<const int32_t> ids) {
    for (int32_t id : ids) Entry(id);
  }
  void AddAnswer(int32_t id) { ++Entry(id).answer_count; }

  // Every id of prompt and answer, with how often it stands in the answer (0: in the prompt only);
  // in order of first appearance. Valid until the next Add.
  absl::Span<const kernels::TokenCount> entries() const { return entries_; }

 private:
  kernels::TokenCount& Entry(int32_t id) {
    const auto [found, fresh] = places_.try_emplace(id, entries_.size());
    if (fresh) entries_.push_back({id, 0});
    return entries_[found->second];
  }

  absl::flat_hash_map<int32_t, size_t> places_;
  std::vector<kernels::TokenCount> entries_;
};

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
