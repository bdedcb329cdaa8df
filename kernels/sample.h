// SPDX-License-Identifier: Apache-2.0
// Arguments of the sampling op: which token each row of logits gives.
#ifndef CCOE_KERNELS_SAMPLE_H_
#define CCOE_KERNELS_SAMPLE_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/view.h"

namespace ccoe::kernels {

// A token id that prompt or answer holds, and how often the answer does.
struct TokenCount {
  int32_t id = 0;
  int32_t answer_count = 0;
};

// What one row is sampled by, in this order: repetition penalty (every id of `counts`: a positive
// logit is divided, a negative one multiplied), presence and frequency penalty (ids with an
// answer_count), ids held back, temperature, top-k, top-p (the smallest set of most likely ids
// whose probability reaches top_p, of those top-k left), min-p (at least min_p times the most
// likely id's probability), then the draw. Ties count the lower id as more likely. Host memory.
struct SampleRow {
  float temperature = 0.0f;  // 0: the most likely id, no draw
  int32_t top_k = 0;         // 0: all
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  absl::Span<const TokenCount> counts;  // distinct ids; empty without penalties
  absl::Span<const int32_t> held_back;  // ids that may not be chosen
  // In [0, 1): the draw takes the id in whose slice of the kept ids' cumulative probability, in
  // rising order of ids, it falls.
  double uniform = 0.0;
  // Log-probabilities under softmax of the logits as they came: -1: none, 0: the chosen id's,
  // n > 0: also of the n most likely.
  int32_t logprobs = -1;
};

struct SampleRowsArgs {
  ConstMatrix logits;                // [rows, vocab] f32, device memory
  absl::Span<const SampleRow> rows;  // [rows]
};

struct TokenLogprob {
  int32_t id = 0;
  float logprob = 0.0f;
};

struct SampledRow {
  int32_t token_id = -1;           // -1: none: see nonfinite_id, or every id is held back
  int32_t nonfinite_id = -1;       // the lowest id whose logit is NaN or infinite
  float logprob = 0.0f;            // with logprobs >= 0
  std::vector<TokenLogprob> best;  // most likely first
};

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_SAMPLE_H_
