// How the next token is chosen. Defaults give greedy-free, unfiltered sampling as OpenAI's API does
// (temperature 1).
#ifndef CCOE_RUNTIME_ENGINE_SAMPLING_H_
#define CCOE_RUNTIME_ENGINE_SAMPLING_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"

namespace ccoe::engine {

struct SamplingParams {
  float temperature = 1.0f;         // 0: greedy; 0..10
  int32_t top_k = 0;                // 0: off
  float top_p = 1.0f;               // (0, 1]
  float min_p = 0.0f;               // [0, 1)
  float repetition_penalty = 1.0f;  // (0, 10]: over prompt and answer, as Hugging Face
  float presence_penalty = 0.0f;    // [-2, 2]: over the answer, as OpenAI
  float frequency_penalty = 0.0f;   // [-2, 2]: over the answer, as OpenAI
  std::optional<uint64_t>
      seed;  // the same seed and prompt give the same tokens whatever else runs; none: a fresh one
  std::vector<int32_t> stop_token_ids;  // besides the model's end-of-sequence ids; at most 64
  bool ignore_eos = false;
  int64_t min_tokens = 0;    // end-of-sequence and stop ids are held back before
  int64_t max_tokens = 256;  // > 0; cut to what the context leaves
  int32_t logprobs = -1;     // -1: none; else the chosen token's and this many best ones', 0..20
};

// INVALID_ARGUMENT naming the value, its range and what was found (NaN included).
absl::Status Validate(const SamplingParams& params, int64_t vocab_size);

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_SAMPLING_H_
