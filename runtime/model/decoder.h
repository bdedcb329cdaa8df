// The decoder: layers [first, last) of a model over a batch of rows. The one implementation, run by
// the backbone worker for its layers and by an expert worker for its own.
#ifndef CCOE_RUNTIME_MODEL_DECODER_H_
#define CCOE_RUNTIME_MODEL_DECODER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/ops.h"
#include "runtime/model/kv_storage.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"

namespace ccoe::model {

// The rows of one pass: consecutive tokens of some sequences, sequence after sequence.
// sequences[i].row_begin counts up from 0 without gaps.
struct RowBatch {
  std::vector<kernels::SequenceRows> sequences;

  int64_t rows() const {
    return sequences.empty() ? 0 : sequences.back().row_begin + sequences.back().row_count;
  }
};

class DecoderScratch;
struct AttentionRows;

// Weights are views into `weights`, which the decoder keeps alive. Run is const and may be called
// by several threads at once with different Ops, DecoderScratch and KV pages.
class Decoder {
 public:
  // Binds and checks the tensors of `layers` ("model.layers.N..." names, N as in the whole model).
  static absl::StatusOr<std::unique_ptr<Decoder>> Create(const ModelSpec& spec, LayerRange layers,
                                                         std::shared_ptr<const Weights> weights);
  ~Decoder();

  // Called after each layer with the layer's number and its output, [rows, hidden] f32 in device
  // memory.
  using LayerObserver = absl::FunctionRef<void(int32_t layer, kernels::ConstMatrix hidden)>;

  // Runs layers `range` (within layers() and kv.layers()) over `hidden` [rows, hidden_size] f32 in
  // place, appending the rows' K and V to `kv`. `scratch` grows as needed and may be used again by
  // the next call. INVALID_ARGUMENT, before anything is written, for a batch that does not fit the
  // cache, its block tables or the model's context.
  absl::Status Run(LayerRange range, const RowBatch& batch, const KvStorage& kv, kernels::Ops& ops,
                   DecoderScratch& scratch, kernels::Matrix hidden) const;
  absl::Status Run(LayerRange range, const RowBatch& batch, const KvStorage& kv, kernels::Ops& ops,
                   DecoderScratch& scratch, kernels::Matrix hidden, LayerObserver observer) const;

  LayerRange layers() const { return layers_; }
  const ModelSpec& spec() const { return spec_; }

 private:
  struct Layer;
  Decoder(const ModelSpec& spec, LayerRange layers, std::shared_ptr<const Weights> weights);
  void RunLayer(int32_t layer, const AttentionRows& rows, kernels::Ops& ops,
                DecoderScratch& scratch, kernels::Matrix hidden) const;

  const ModelSpec spec_;
  const LayerRange layers_;
  const std::shared_ptr<const Weights> weights_;
  const std::vector<float> rope_frequencies_;
  std::vector<Layer> bound_;  // [0] is layers_.first
};

// Intermediate activations of one pass at a time, kept between passes. Not thread-safe.
class DecoderScratch {
 public:
  explicit DecoderScratch(kernels::Device* device) : device_(device) {}

  // Room for `rows` rows of the given spec; grows by doubling, never shrinks. RESOURCE_EXHAUSTED
  // from the device.
  absl::Status Reserve(const ModelSpec& spec, int64_t rows);

 private:
  friend class Decoder;

  // cos_ and sin_ of rows at `positions`, for which there is room.
  absl::Status FillRope(absl::Span<const float> frequencies, absl::Span<const int64_t> positions);

  kernels::Device* device_;
  kernels::Buffer normed_, q_, k_, v_, attention_, gate_, up_, cos_, sin_;
};

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_DECODER_H_
