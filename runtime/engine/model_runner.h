// SPDX-License-Identifier: Apache-2.0
// Runs a micro batch's rows on the device: embedding, layers, head. Holds the rows of one at a
// time.
#ifndef CCOE_RUNTIME_ENGINE_MODEL_RUNNER_H_
#define CCOE_RUNTIME_ENGINE_MODEL_RUNNER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/op_shapes.h"
#include "kernels/ops.h"
#include "runtime/engine/engine_options.h"
#include "runtime/engine/ffn_dispatch.h"
#include "runtime/exchange/row_block.h"
#include "runtime/model/decoder.h"
#include "runtime/model/head.h"
#include "runtime/model/kv_cache.h"

namespace ccoe::engine {

class MoeStatistics;

// Device memory for rows of f32, used again. What was taken once is there: Take at the start what
// will be needed at most, and later ones allocate nothing.
class RowBuffer {
 public:
  explicit RowBuffer(kernels::Device* device) : device_(device) {}
  // [rows, cols], content undefined. RESOURCE_EXHAUSTED from the device.
  absl::StatusOr<kernels::Matrix> Take(int64_t rows, int64_t cols);

 private:
  kernels::Device* device_;
  kernels::Buffer buffer_;
};

// What a micro batch keeps while it is suspended before the end of a MoE layer: on the device, or
// in host memory where there is no more room for it. Movable.
struct BatchState {
  explicit BatchState(kernels::Device* device)
      : hidden_buffer(device), shared_buffer(device), own_buffer(device) {}

  RowBuffer hidden_buffer, shared_buffer, own_buffer;
  kernels::Matrix hidden;  // [rows, hidden_size], attention already added
  kernels::Matrix shared;  // the shared expert's output; empty: none
  kernels::Matrix own;     // contributions of experts that are here, in the order of their part
  std::optional<model::DecoderPass> pass;  // of these rows; none after they changed
  model::DecoderPass ended;                // the one before
  // Of hidden, shared and own, where they are in host memory: then the above holds nothing.
  std::vector<float> host_hidden, host_shared, host_own;

  // The rows have changed.
  void EndPass() {
    if (!pass.has_value()) return;
    ended = *std::move(pass);
    pass.reset();
  }
};

// Contributions that came from a worker: rows [places.size(), hidden_size] and where each belongs.
struct ArrivedRows {
  exchange::RowBlock rows;
  absl::Span<const int32_t> places;
};

// What rows that leave become: rows of `memory` as `dtype`, or where that is null, of another
// device or full, f32 in host memory.
struct RowForm {
  exchange::RowMemory* memory = nullptr;
  kernels::DType dtype = kernels::DType::kF32;
};

// All contributions to a MoE layer: see CombineOrder.
struct Contributions {
  absl::Span<const int32_t> offsets;     // [rows + 1]
  absl::Span<const int32_t> own_places;  // of BatchState::own
  std::vector<ArrivedRows> arrived;
};

// How large micro batches get, for the memory that is taken when a runner is made.
struct BatchLimits {
  int64_t max_rows = 512;
  // Branches of models with MoE layers whose rows stay on the device while they are suspended;
  // those of more wait in host memory.
  int suspended = 2;
};

// The KV of all layers of the model's decoder, and the rows of the one that runs now. Used by
// one thread. Errors are the device's or the decoder's; after one the rows are undefined until the
// next Embed or Load.
class ModelRunner {
 public:
  // Rows of one call of Logits.
  static constexpr int64_t kMaxHeadRows = 64;

  // `pages` of `page_tokens` tokens in each layer, K and V as `kv_dtype`. Takes all device memory
  // that micro batches within `limits` need. RESOURCE_EXHAUSTED from the device.
  static absl::StatusOr<std::unique_ptr<ModelRunner>> Create(
      BackboneModel model, std::unique_ptr<kernels::Ops> ops, int64_t pages, int64_t page_tokens,
      kernels::DType kv_dtype = kernels::DType::kF32, const BatchLimits& limits = {});
  // As an engine with `options` needs it.
  static absl::StatusOr<std::unique_ptr<ModelRunner>> Create(BackboneModel model,
                                                             std::unique_ptr<kernels::Ops> ops,
                                                             const EngineOptions& options);

  // The ops' calls of a runner made with `options`.
  static kernels::OpShapes ShapesOf(const model::ModelSpec& spec, const EngineOptions& options);

  // From now on what rows choose at MoE layers that Run runs is counted there (null: nowhere), at
  // the next wait for the device: before anything that came of it is known on the host.
  void CountIn(MoeStatistics* statistics) { statistics_ = statistics; }
  // Waits for what was not counted yet, if there is any: to be called when the batch is done.
  absl::Status CountChoices();
  // After an error: what is not counted may never have been computed.
  void DropChoices() { scratch_.choices().Drop(); }

  // The rows become the embeddings of `ids`, or those of `blocks`, one after the other, each
  // [n, hidden_size] of host memory (owned) or of this device.
  absl::Status Embed(absl::Span<const int32_t> ids);
  absl::Status Load(absl::Span<const exchange::RowBlock> blocks);
  absl::Status Load(const exchange::RowBlock& rows) { return Load({&rows, 1}); }

  // Runs layers `range` over the rows. `after_layer` (may be null) is called after each with its
  // number; it may Read. All FFN experts of MoE layers among them must be with the decoder.
  using AfterLayer = absl::FunctionRef<absl::Status(int32_t layer)>;
  absl::Status Run(model::LayerRange range, const model::RowBatch& batch);
  absl::Status Run(model::LayerRange range, const model::RowBatch& batch, AfterLayer after_layer);

  // A MoE layer in parts: Attend, Route, then RunHere and RunShared where there is something to
  // run, then FinishMoe, maybe after Park and Restore. `batch` as for Run.
  absl::Status Attend(int32_t layer, const model::RowBatch& batch);
  // `steering` may be null; it must live until FinishMoe.
  absl::StatusOr<model::RoutedRows> Route(int32_t layer, const model::GateSteering* steering);
  // The experts of `part` that are here; with part.swap.combine one row of the part each.
  absl::Status RunHere(const FfnPart& part, const model::RoutedRows& routed);
  absl::Status RunShared(const model::RoutedRows& routed);
  absl::Status FinishMoe(int32_t layer, const Contributions& contributions);

  // Takes the rows out, so that another batch can run; and brings them back.
  absl::StatusOr<BatchState> Park();
  BatchState NewBatchState() { return BatchState(&ops_->device()); }
  absl::Status Restore(BatchState rows);

  // The given rows, in that order, become all rows.
  absl::Status Keep(absl::Span<const int32_t> rows);

  // Copies rows [begin, begin + count), or the given ones, to host memory [n, hidden_size].
  absl::Status Read(int64_t begin, int64_t count, float* out);
  absl::Status Read(absl::Span<const int32_t> rows, std::vector<float>& out);

  // Rows to be handed over, which are complete after the next Wait: the given ones of the batch,
  // or of `from` [.., hidden_size] on this device.
  absl::StatusOr<exchange::RowBlock> HandOver(absl::Span<const int32_t> rows, const RowForm& form);
  absl::StatusOr<exchange::RowBlock> HandOver(kernels::ConstMatrix from,
                                              absl::Span<const int32_t> rows, const RowForm& form);
  // For all ops so far; what rows chose is counted then.
  absl::Status Wait();

  // Makes the logits [rows.size(), vocab_size] of the given rows, on the device, until the next
  // call.
  absl::Status Logits(const model::LmHead& head, absl::Span<const int32_t> rows);
  // Copies rows [begin, begin + count) of the logits to host memory.
  absl::Status ReadLogits(int64_t begin, int64_t count, std::vector<float>& out);
  // Chooses a token for each of the rows.size() rows of the logits from `begin` on. Waits for the
  // device.
  absl::Status Sample(int64_t begin, absl::Span<const kernels::SampleRow> rows,
                      absl::Span<kernels::SampledRow> out);

  int64_t hidden_size() const { return model_.spec.hidden_size; }
  int64_t vocab_size() const { return model_.spec.vocab_size; }
  const BackboneModel& model() const { return model_; }

 private:
  ModelRunner(BackboneModel model, std::unique_ptr<kernels::Ops> ops);
  absl::Status Reserve(const BatchLimits& limits);
  absl::Status ReserveParked(int64_t rows, int64_t pairs, BatchState& parked);
  absl::StatusOr<BatchState> ParkOnHost();
  absl::StatusOr<kernels::Matrix> Gather(kernels::ConstMatrix from, absl::Span<const int32_t> rows);
  absl::Status Read(kernels::ConstMatrix from, absl::Span<const int32_t> rows,
                    std::vector<float>& out);
  absl::StatusOr<kernels::Matrix> Upload(absl::Span<const float> rows, RowBuffer& buffer);
  absl::StatusOr<kernels::ConstMatrix> OnDevice(const exchange::RowBlock& rows, RowBuffer& buffer);
  bool Holds(const exchange::RowMemory* memory) const;

  const BackboneModel model_;
  const std::unique_ptr<kernels::Ops> ops_;
  std::unique_ptr<model::KvStorage> kv_;
  model::DecoderScratch scratch_;
  MoeStatistics* statistics_ = nullptr;
  RowBuffer gathered_buffer_, logits_buffer_, contributions_buffer_, upload_buffer_;
  kernels::Matrix logits_;                  // in logits_buffer_
  BatchState now_;                          // the micro batch that runs
  std::vector<BatchState> idle_;            // memory for others to park in
  std::vector<exchange::RowBlock> in_use_;  // by ops that may still run
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_MODEL_RUNNER_H_
