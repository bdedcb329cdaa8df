// SPDX-License-Identifier: Apache-2.0
// Sampling: one block a row, shared memory within what a block has without asking.
#ifndef CCOE_KERNELS_CUDA_SAMPLE_H_
#define CCOE_KERNELS_CUDA_SAMPLE_H_

#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/sample.h"

namespace ccoe::kernels {

// A SampleRow; offsets are into the arrays of SampleParams.
struct SampleRowParams {
  const float* logits;  // [vocab]
  float* adjusted;      // [vocab], scratch; null where no penalty applies and no id is held back
  int64_t counts_begin, counts_end;
  int64_t held_back_begin, held_back_end;
  int64_t best_begin;   // room for max(logprobs, 0)
  uint64_t uniform;     // of 2^64
  uint64_t top_p;       // of 2^64, where has_top_p
  uint64_t min_weight;  // in the steps of sample_math.h
  int32_t top_k;        // 0: all; below vocab
  int32_t logprobs;     // -1: none; at most vocab
  int32_t has_top_p;
  float temperature, repetition_penalty, presence_penalty, frequency_penalty;
};

struct SampledLogit {
  int32_t id;
  float logit;
};

// What a row gives; the logarithms are the host's.
struct SampleRowResult {
  int32_t token_id, nonfinite_id;  // as in SampledRow
  float token_logit, max_logit;    // as they came; with token_id >= 0
  uint64_t total;                  // sum of WeightOf(logit, max_logit, 1); with logprobs >= 0
};

// Device memory.
struct SampleParams {
  const SampleRowParams* rows;
  const TokenCount* counts;
  const int32_t* held_back;
  SampleRowResult* results;  // [rows]
  SampledLogit* best;        // of each row the most likely ids, in any order
  int64_t row_count;
  int32_t vocab;
};
void CudaSample(Launcher* launcher, const SampleParams& params);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_SAMPLE_H_
