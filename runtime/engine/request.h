// SPDX-License-Identifier: Apache-2.0
// A query as the engine sees it: what comes in, how its tokens are chosen, what its answer is made
// of, and where the answer goes. Defaults give greedy-free, unfiltered sampling as OpenAI's API
// does (temperature 1).
#ifndef CCOE_RUNTIME_ENGINE_REQUEST_H_
#define CCOE_RUNTIME_ENGINE_REQUEST_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "runtime/base/ids.h"
#include "runtime/engine/moe_control.h"

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

struct TokenLogprob {
  int32_t token_id = 0;
  float logprob = 0.0f;  // natural, of the distribution before penalties, temperature and filters
};

struct GeneratedToken {
  int32_t token_id = 0;
  std::optional<float> logprob;    // with logprobs >= 0
  std::vector<TokenLogprob> best;  // most likely first
};

// kStop: an end-of-sequence or stop id.
enum class FinishReason : uint8_t { kStop, kLength, kCancelled, kError };

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t generated_tokens =
      0;  // as many as OnToken calls: the id that stopped the answer is not counted
  absl::Duration queue_time, prefill_time,
      decode_time;  // waiting for admission; to the first token; after it
  int64_t preemptions = 0;
  // A worker was lost and another went on: how often, and whether one of another numerics class
  // (the answer is right, but its bits may differ from those of an undisturbed run).
  int64_t failovers = 0;
  bool numerics_changed = false;
};

// Receives one query's answer. Calls come one after another, on the engine's thread: they must not
// block.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  // The end-of-sequence or stop id that ends an answer is not passed here (FinishReason::kStop says
  // it came); with ignore_eos end-of-sequence ids are ordinary tokens and are.
  virtual void OnToken(const GeneratedToken& token) = 0;
  // Prompt logits, only where EngineRequest asked: rows for positions [first_position,
  // first_position + rows), in order.
  virtual void OnLogits(int64_t first_position, absl::Span<const float> logits) {}
  // hidden [planes, rows, hidden_size] likewise, planes = layers + 1.
  virtual void OnHidden(int64_t first_position, int64_t rows, int64_t planes,
                        absl::Span<const float> hidden) {}
  // The FFN experts that rows from `first_position` on went through at MoE layer `layer`: row r's
  // are experts[offsets[r] .. offsets[r + 1]) with their weights. Again after a preemption.
  virtual void OnRouting(int32_t layer, int64_t first_position, absl::Span<const int32_t> offsets,
                         absl::Span<const int32_t> experts, absl::Span<const float> weights) {}
  // The last call. An error status goes with kCancelled (CANCELLED, DEADLINE_EXCEEDED) or kError.
  virtual void OnFinish(FinishReason reason, const absl::Status& status, const Usage& usage) = 0;
};

struct EngineRequest {
  std::string query_id;         // for logs and messages; the caller keeps it unique
  std::vector<int32_t> prompt;  // token ids, 1 .. context - 1
  ExpertRef expert;  // empty: the backbone's own layers; version 0: the directory's choice
  SamplingParams sampling;
  absl::Time deadline = absl::InfiniteFuture();
  bool prompt_logits = false;  // offline scoring: logits of every prompt position, no generation
                               // when max_tokens == 0
  bool prompt_hidden = false;
  bool routing = false;  // OnRouting is called; of layers that ran on the backbone
  // Of the model's own gates; null: none. shared_ptr: steps in flight read it after the query
  // ended.
  std::shared_ptr<const MoeControl> moe;
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_REQUEST_H_
