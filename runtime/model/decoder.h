// SPDX-License-Identifier: Apache-2.0
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
#include "runtime/model/decoder_pass.h"
#include "runtime/model/ffn.h"
#include "runtime/model/ffn_shard.h"
#include "runtime/model/kv_cache.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"

namespace ccoe::model {

// Weights are views into `weights`, which the decoder keeps alive. Its const functions may be
// called by several threads at once with different Ops, DecoderScratch and KV pages.
class Decoder {
 public:
  // Binds and checks the tensors of `layers` (numbered as in the whole model). Of MoE layers it
  // binds the FFN experts in `experts`, by default all; the others' tensors need not be there. What
  // `weights` hold beyond the model is refused or warned of (unread_tensors.h).
  static absl::StatusOr<std::unique_ptr<Decoder>> Create(const ModelSpec& spec, LayerRange layers,
                                                         std::shared_ptr<const Weights> weights);
  static absl::StatusOr<std::unique_ptr<Decoder>> Create(const ModelSpec& spec, LayerRange layers,
                                                         std::shared_ptr<const Weights> weights,
                                                         const FfnShard& experts);
  ~Decoder();

  // Runs layers `range` (within layers() and kv.layers()) over `hidden` [rows, hidden_size] f32 in
  // place, appending the rows' K and V to `kv`. `scratch` grows as needed and may be used again by
  // the next call. INVALID_ARGUMENT, before anything is written, for a batch that does not fit the
  // cache, its block tables or the model's context. Where all FFN experts of the layers are held
  // here, what the rows chose is kept in scratch.choices() and nothing waits for the device.
  absl::Status Run(LayerRange range, const RowBatch& batch, const KvStorage& kv, kernels::Ops& ops,
                   DecoderScratch& scratch, kernels::Matrix hidden) const;

  // The same, layer by layer, for a pass that is suspended where experts run elsewhere.
  //
  // `ended`, of the same ops, gives its device memory to the new pass, which waits for them only
  // where the memory must grow; without one, memory is allocated. INVALID_ARGUMENT as Run.
  absl::StatusOr<DecoderPass> BeginPass(const RowBatch& batch, const KvStorage& kv,
                                        kernels::Ops& ops, DecoderPass ended = {}) const;
  // Called after each layer with the layer's number and its output, [rows, hidden] f32 in device
  // memory.
  using LayerObserver = absl::FunctionRef<void(int32_t layer, kernels::ConstMatrix hidden)>;
  // As Run, for a pass that was begun, layer after layer.
  absl::Status RunLayers(LayerRange range, const DecoderPass& pass, kernels::Ops& ops,
                         DecoderScratch& scratch, kernels::Matrix hidden,
                         LayerObserver observer) const;
  // hidden += attention.
  absl::Status RunAttention(int32_t layer, const DecoderPass& pass, kernels::Ops& ops,
                            DecoderScratch& scratch, kernels::Matrix hidden) const;
  // hidden += feed-forward, dense or with all FFN experts held here (FAILED_PRECONDITION names one
  // that is chosen and is not). Keeps the choice and does not wait, as Run, where all are held and
  // the pass is not steered.
  absl::Status RunFfn(int32_t layer, const DecoderPass& pass, kernels::Ops& ops,
                      DecoderScratch& scratch, kernels::Matrix hidden) const;
  // A MoE layer's feed-forward in parts; see ffn.h.
  absl::StatusOr<RoutedRows> Route(int32_t layer, const DecoderPass& pass, kernels::Ops& ops,
                                   DecoderScratch& scratch, kernels::ConstMatrix hidden) const;
  // `pairs` of experts this decoder holds.
  absl::Status RunHeldExperts(int32_t layer, const ExpertPairs& pairs, kernels::Ops& ops,
                              DecoderScratch& scratch, kernels::Matrix out) const;
  bool has_shared_expert(int32_t layer) const;
  absl::Status RunSharedExpert(int32_t layer, kernels::ConstMatrix rows, kernels::Ops& ops,
                               DecoderScratch& scratch, kernels::Matrix out) const;
  absl::Status FinishMoe(int32_t layer, const PairOutputs& contributions,
                         kernels::ConstMatrix shared, kernels::Ops& ops, DecoderScratch& scratch,
                         kernels::Matrix hidden) const;
  // Whether this decoder holds an FFN expert.
  bool Holds(int32_t layer, int32_t expert) const;
  // Whether it holds all of a MoE layer's.
  bool HoldsAll(int32_t layer) const;

  LayerRange layers() const { return layers_; }
  const ModelSpec& spec() const { return spec_; }

 private:
  struct Layer;
  Decoder(const ModelSpec& spec, LayerRange layers, std::shared_ptr<const Weights> weights);
  absl::StatusOr<Layer> Bind(int32_t layer, const FfnShard& experts) const;
  const Layer& BoundLayer(int32_t layer) const;
  absl::Status CheckPass(LayerRange range, const KvStorage& kv, int64_t rows,
                         kernels::ConstMatrix hidden) const;
  absl::Status CheckMoe(int32_t layer) const;
  bool StaysOnDevice(LayerRange range) const;
  absl::Status ReserveAll(LayerRange range, int64_t rows, DecoderScratch& scratch) const;
  absl::Status RunMoeByHost(int32_t layer, const DecoderPass& pass, kernels::Ops& ops,
                            DecoderScratch& scratch, kernels::Matrix hidden) const;

  const ModelSpec spec_;
  const LayerRange layers_;
  const std::shared_ptr<const Weights> weights_;
  const std::vector<float> rope_frequencies_;
  const ScratchWidths scratch_widths_;
  std::vector<Layer> bound_;  // [0] is layers_.first
};

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_DECODER_H_
