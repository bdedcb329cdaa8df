// Chooses the next token from a row of logits, on the host.
//
// Order: repetition penalty (Hugging Face: over prompt and answer, a positive logit is divided, a
// negative one multiplied), presence and frequency penalty (OpenAI: over the answer, subtracted),
// ids held back, temperature, top-k, top-p (the smallest set of most likely ids whose probability
// reaches top_p), min-p (at least min_p times the most likely id's probability), then a draw. Ties
// count the lower id as more likely.
//
// The draw is a function of (seed, position) alone: no generator state, so that a query gets the
// same tokens whatever else runs and after it was recomputed.
#ifndef CCOE_RUNTIME_ENGINE_SAMPLER_H_
#define CCOE_RUNTIME_ENGINE_SAMPLER_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/engine/query.h"
#include "runtime/engine/sampling.h"
#include "runtime/engine/token_counts.h"

namespace ccoe::engine {

struct SampleRequest {
  absl::Span<const float> logits;          // [vocab_size] as the model gave them
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

// Keeps scratch between calls. Not thread-safe.
class Sampler {
 public:
  // INTERNAL where a logit is NaN or infinite, or every id is held back.
  absl::StatusOr<GeneratedToken> Sample(const SampleRequest& request);

 private:
  struct Candidate {
    float logit;
    int32_t id;
  };

  absl::Span<const float> Adjusted(const SampleRequest& request);
  int32_t Draw(absl::Span<const float> logits, float max_logit, const SampleRequest& request);
  int32_t DrawUnsorted(absl::Span<const float> logits, float max_logit,
                       const SampleRequest& request);
  void SortNext(size_t sorted, size_t count);
  size_t KeepTopP(size_t limit, float max_logit, const SamplingParams& params);
  void FillLogprobs(absl::Span<const float> logits, int32_t best_count, GeneratedToken& token);

  std::vector<float> adjusted_;
  std::vector<double> weights_;
  std::vector<Candidate> candidates_;
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_SAMPLER_H_
