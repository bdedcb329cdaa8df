// SPDX-License-Identifier: Apache-2.0
// What the passes of one lane work in, and the way of rows from swaps into a pass and back. Both
// kinds of pass use the same ops and the same device memory, one after another.
#ifndef CCOE_RUNTIME_EXPERTS_PASS_MEMORY_H_
#define CCOE_RUNTIME_EXPERTS_PASS_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/device.h"
#include "kernels/dtype.h"
#include "kernels/op_shapes.h"
#include "kernels/ops.h"
#include "kernels/view.h"
#include "runtime/base/clock.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/experts/unit_queue.h"
#include "runtime/model/decoder.h"
#include "runtime/model/kv_cache.h"
#include "runtime/model/model_spec.h"

namespace ccoe::experts {

// Consecutive rows of a swap, or of those it gets back, and where they lie in a pass.
struct RowRun {
  size_t swap = 0;  // of the pass's
  int64_t swap_row = 0;
  int64_t pass_row = 0;
  int64_t count = 0;
};

// Runs that follow each other in the swap and in the pass become one: one copy.
void AppendRun(std::vector<RowRun>& runs, const RowRun& run);
// What of the runs lies in rows [begin, end) of the pass, as rows of that piece.
std::vector<RowRun> CutRuns(absl::Span<const RowRun> runs, int64_t begin, int64_t end);

// Not thread-safe.
class PassMemory {
 public:
  struct Limits {
    int64_t rows = 0;   // of a pass of a layer expert; 0: none run here
    int64_t pairs = 0;  // (row, expert) pairs of a pass of FFN experts; 0: none run here
  };

  // Takes what passes within the limits need, over any layers of the model; larger ones are
  // computed piece by piece. A row with all FFN experts of its layer always fits.
  // RESOURCE_EXHAUSTED from the device.
  static absl::StatusOr<std::unique_ptr<PassMemory>> Create(const model::ModelSpec& spec,
                                                            Limits limits,
                                                            std::unique_ptr<kernels::Ops> ops);

  kernels::Ops& ops() { return *ops_; }
  kernels::Device& device() { return ops_->device(); }
  model::DecoderScratch& decoder() { return decoder_; }
  const Limits& limits() const { return limits_; }
  int64_t hidden_size() const { return hidden_size_; }

  // The rows that a pass works on, from the first: [count, hidden_size] f32 of the device.
  kernels::Matrix Rows(int64_t count) const;
  // Brings rows of `swaps` there, as the wire would have brought them.
  absl::Status TakeIn(absl::Span<const WaitingSwap> swaps, absl::Span<const RowRun> runs);

 private:
  PassMemory(int64_t hidden_size, Limits limits, std::unique_ptr<kernels::Ops> ops);
  absl::Status Reserve(const model::ModelSpec& spec);
  absl::Status ReserveFfn(const model::ModelSpec& spec);
  absl::Status TakeInHostRows(const exchange::Swap& swap, const RowRun& run, float* to);

  const int64_t hidden_size_;
  Limits limits_;
  const std::unique_ptr<kernels::Ops> ops_;
  model::DecoderScratch decoder_;
  kernels::Buffer rows_;
  std::vector<float> staged_;  // host rows that are gathered or rounded
};

// What the swaps of a pass get back.
class PassResults {
 public:
  // Room for the rows of each swap that its verdicts leave: on the device, in the wire's dtype,
  // where the swap's rows are and there is room, else in host memory.
  PassResults(absl::Span<const WaitingSwap> swaps, int64_t hidden_size);

  // Puts rows of the pass, f32 on the device, where they belong. Waits for the ops before.
  absl::Status Give(kernels::ConstMatrix rows, absl::Span<const RowRun> runs, kernels::Ops& ops);

  exchange::SwapResult& result(size_t swap) { return results_[swap]; }
  std::vector<exchange::SwapResult> Take() && { return std::move(results_); }

 private:
  const int64_t hidden_size_;
  std::vector<exchange::SwapResult> results_;
  std::vector<kernels::Matrix> device_rows_;  // of each, to be written; empty: in host memory
};

struct UnitHostOptions {
  // Which units it may be given; memory for passes is taken for these alone. FFN experts take none
  // over a model without MoE layers.
  bool layer_experts = true;
  bool ffn_experts = true;

  int64_t kv_tokens = 65536;  // KV capacity of each layer expert, in tokens
  int64_t page_tokens = 32;
  kernels::DType kv_dtype = kernels::DType::kF32;  // of the KV cache; what the ops' device takes

  // Rows of one pass of a layer expert, (row, expert) pairs of one of FFN experts; a larger swap
  // runs alone, piece by piece. Their device memory is taken at creation.
  int64_t max_batch_rows = 2048;
  int64_t max_batch_pairs = 2048;

  // Over all peers; one more gets kQueueFull.
  int max_waiting_swaps = 1024;
  int64_t max_waiting_bytes = int64_t{512} << 20;  // rows and lists; unless nothing else waits

  std::string numerics;          // see exchange::LinkPeer
  const Clock* clock = nullptr;  // outlives the host; null: the system's
};

// The ops' calls of a host with these options.
kernels::OpShapes ShapesOf(const model::ModelSpec& spec, const UnitHostOptions& options);
// What PassMemory::Create is given, and the cache of a layer expert with these layers.
PassMemory::Limits PassLimitsOf(const UnitHostOptions& options);
model::KvStorageOptions KvOptionsOf(const UnitHostOptions& options, model::LayerRange layers);
UnitQueue::Options QueueOptionsOf(const UnitHostOptions& options);

// INVALID_ARGUMENT names the option that is below 1; no kind of unit at all.
absl::Status Check(const UnitHostOptions& options);

}  // namespace ccoe::experts

#endif  // CCOE_RUNTIME_EXPERTS_PASS_MEMORY_H_
