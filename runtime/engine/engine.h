// The engine of a backbone worker: continuous batching without a barrier over layer experts.
//
// A step is a value in flight with a layer cursor. The loop (one thread) forms a step from runnable sequences, runs the backbone's
// layers up to where its rows leave for their experts, sends each group over its link and goes on with whatever is ready: another
// group's answer, another step. An answer's rows run the layers that follow the expert (if any), norm, head and sampling, and
// their sequences are runnable again.
#ifndef CCOE_RUNTIME_ENGINE_ENGINE_H_
#define CCOE_RUNTIME_ENGINE_ENGINE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "kernels/ops.h"
#include "runtime/base/clock.h"
#include "runtime/base/ids.h"
#include "runtime/engine/sampling.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/model/decoder.h"
#include "runtime/model/head.h"

namespace ccoe::engine {

// An expert as the engine needs it. shared_ptr: a query pins it from admission to its end, whatever the directory says meanwhile.
struct ExpertBinding {
  ExpertRef expert;                                    // real version
  model::LayerRange layers;
  std::shared_ptr<exchange::ActivationLink> link;
  std::shared_ptr<const model::LmHead> own_head;       // null: the backbone's
};

// Finds experts. Thread-safe; called at admission.
class ExpertDirectory {
 public:
  virtual ~ExpertDirectory() = default;
  // NOT_FOUND (says which experts there are) or UNAVAILABLE (no worker holds it now).
  virtual absl::StatusOr<std::shared_ptr<const ExpertBinding>> Find(const ExpertRef& expert) = 0;
};

struct TokenLogprob {
  int32_t token_id = 0;
  float logprob = 0.0f;  // natural, of the distribution before temperature and filters
};

struct GeneratedToken {
  int32_t token_id = 0;
  std::optional<float> logprob;          // with logprobs >= 0
  std::vector<TokenLogprob> best;        // most likely first
};

enum class FinishReason : uint8_t { kStop, kLength, kCancelled, kError };  // kStop: an end-of-sequence or stop id

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;
  absl::Duration queue_time, prefill_time, decode_time;  // waiting for admission; to the first token; after it
  int64_t preemptions = 0;
};

// Receives one query's answer. Calls come one after another, on the engine's thread: they must not block.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  virtual void OnToken(const GeneratedToken& token) = 0;
  // Prompt logits, only where QueryOptions asked: rows for positions [first_position, first_position + rows), in order.
  virtual void OnLogits(int64_t first_position, absl::Span<const float> logits) {}
  // hidden [planes, rows, hidden_size] likewise, planes = layers + 1.
  virtual void OnHidden(int64_t first_position, int64_t rows, int64_t planes, absl::Span<const float> hidden) {}
  // The last call. An error status goes with kCancelled (CANCELLED, DEADLINE_EXCEEDED) or kError.
  virtual void OnFinish(FinishReason reason, const absl::Status& status, const Usage& usage) = 0;
};

struct QueryOptions {
  std::string query_id;              // for logs and messages; the caller keeps it unique
  std::vector<int32_t> prompt;       // token ids, 1 .. context - 1
  ExpertRef expert;                  // empty: the backbone's own layers; version 0: the directory's choice
  SamplingParams sampling;
  absl::Time deadline = absl::InfiniteFuture();
  bool prompt_logits = false;        // offline scoring: logits of every prompt position, no generation when max_tokens == 0
  bool prompt_hidden = false;
};

struct EngineOptions {
  int64_t kv_tokens = 65536;         // KV capacity below and above the split on the backbone, in tokens
  int64_t page_tokens = 32;
  int64_t max_step_tokens = 512;     // token budget of a step: decode rows first, then prefill chunks
  int64_t max_prefill_chunk = 512;   // of one sequence in one step
  int max_running = 256;             // sequences that hold KV
  int max_waiting = 1024;            // admission queue; one more gets RESOURCE_EXHAUSTED
  int max_steps_in_flight = 2;       // ping-pong
  kernels::DType wire_dtype = kernels::DType::kF32;
  absl::Duration swap_timeout = absl::Seconds(30);
};

// The parts of a model the backbone holds.
struct BackboneModel {
  model::ModelSpec spec;
  std::shared_ptr<const model::TokenEmbedding> embedding;
  std::shared_ptr<const model::Decoder> decoder;  // layers [0, n); n < all where the base's own top is left out
  std::shared_ptr<const model::LmHead> head;
};

struct EngineLoad {
  int64_t waiting = 0, running = 0;
  int64_t kv_tokens_used = 0, kv_tokens_total = 0;
  int64_t prompt_tokens = 0, generated_tokens = 0, preemptions = 0, steps = 0;  // since start
  int64_t last_step_rows = 0;
};

// Thread-safe.
class Engine {
 public:
  // `ops` runs on the engine's thread only; `directory` may be null (no experts) and must outlive the engine.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(BackboneModel model, std::unique_ptr<kernels::Ops> ops,
                                                        ExpertDirectory* directory, const EngineOptions& options);
  // Cancels what runs and joins.
  ~Engine();

  // Queues a query. On OK `sink` will get OnFinish exactly once. On error (INVALID_ARGUMENT: prompt, sampling; NOT_FOUND: expert;
  // RESOURCE_EXHAUSTED: queue full, the message says when to retry; UNAVAILABLE: draining) `sink` is never called.
  // Returns a handle for Cancel.
  absl::StatusOr<uint64_t> Submit(QueryOptions query, std::unique_ptr<TokenSink> sink);

  // Ends the query with CANCELLED soon; unknown or finished handles are ignored.
  void Cancel(uint64_t handle);

  // Refuses new queries and waits for the others until `deadline`; true if none is left.
  bool Drain(absl::Time deadline);

  EngineLoad Load() const;

 private:
  class Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_ENGINE_H_
