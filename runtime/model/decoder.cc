// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/decoder.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/attention.h"
#include "runtime/model/block.h"
#include "runtime/model/unread_tensors.h"

namespace ccoe::model {
namespace {

std::string RangeText(LayerRange range) {
  return absl::StrCat("[", range.first, ", ", range.last, ")");
}

bool IsPlainDecode(const RowBatch& batch) {
  return std::all_of(batch.sequences.begin(), batch.sequences.end(),
                     [](const kernels::SequenceRows& rows) { return rows.row_count == 1; });
}

absl::StatusOr<std::vector<FfnExpertWeights>> BindExperts(const ModelSpec& spec, int32_t layer,
                                                          const FfnShard& shard,
                                                          const Weights& weights) {
  const FfnSpec& ffn = spec.layers[static_cast<size_t>(layer)].ffn;
  std::vector<FfnExpertWeights> experts(static_cast<size_t>(ffn.moe.experts));
  const auto held = shard.layers().find(layer);
  if (held == shard.layers().end()) return experts;
  for (const int32_t expert : held->second) {
    CCOE_ASSIGN_OR_RETURN(experts[static_cast<size_t>(expert)],
                          BindFfnExpert(spec, layer, expert, weights));
  }
  return experts;
}

}  // namespace

// What a decoder holds of one layer. Of attention and latent, and of ffn and moe, the one that the
// layer's spec asks for.
struct Decoder::Layer {
  AttentionWeights attention;
  LatentAttentionWeights latent;
  FfnWeights ffn;
  MoeWeights moe;
  std::vector<FfnExpertWeights> experts;  // all of the layer's, empty views where not held
  bool holds_all = false;                 // of `experts`, none is empty
};

Decoder::Decoder(const ModelSpec& spec, LayerRange layers, std::shared_ptr<const Weights> weights)
    : spec_(spec),
      layers_(layers),
      weights_(std::move(weights)),
      rope_frequencies_(RopeFrequencies(spec.rope, RotaryDim(spec))),
      scratch_widths_(spec) {}

Decoder::~Decoder() = default;

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Create(const ModelSpec& spec, LayerRange layers,
                                                         std::shared_ptr<const Weights> weights) {
  return Create(spec, layers, std::move(weights), FfnShard::All(spec));
}

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Create(const ModelSpec& spec, LayerRange layers,
                                                         std::shared_ptr<const Weights> weights,
                                                         const FfnShard& experts) {
  CCOE_RETURN_IF_ERROR(Validate(spec));
  CCOE_RETURN_IF_ERROR(experts.CheckWithin(spec));
  const LayerRange whole{0, spec.layer_count()};
  if (layers.empty() || !whole.Contains(layers)) {
    return absl::InvalidArgumentError(absl::StrCat("decoder layers: expected a range within ",
                                                   RangeText(whole), ", found ",
                                                   RangeText(layers)));
  }
  auto decoder = std::unique_ptr<Decoder>(new Decoder(spec, layers, std::move(weights)));
  for (int32_t i = layers.first; i < layers.last; ++i) {
    CCOE_ASSIGN_OR_RETURN(Layer layer, decoder->Bind(i, experts));
    decoder->bound_.push_back(std::move(layer));
  }
  CCOE_RETURN_IF_ERROR(CheckAllIsRead(spec, *decoder->weights_));
  return decoder;
}

bool Decoder::StaysOnDevice(LayerRange range) const {
  for (int32_t i = range.first; i < range.last; ++i) {
    if (spec_.layers[static_cast<size_t>(i)].ffn.is_moe() && !HoldsAll(i)) return false;
  }
  return true;
}

// So that layers `range` allocate nothing.
absl::Status Decoder::ReserveAll(LayerRange range, int64_t rows, DecoderScratch& scratch) const {
  CCOE_RETURN_IF_ERROR(scratch.Reserve(scratch_widths_, rows));
  for (int32_t i = range.first; i < range.last; ++i) {
    if (!spec_.layers[static_cast<size_t>(i)].ffn.is_moe()) continue;
    CCOE_RETURN_IF_ERROR(scratch.choices_.Begin(spec_, layers_, rows));
    return scratch.moe_.Reserve(spec_, rows);
  }
  return absl::OkStatus();
}

absl::StatusOr<Decoder::Layer> Decoder::Bind(int32_t layer, const FfnShard& experts) const {
  const LayerSpec& spec = spec_.layers[static_cast<size_t>(layer)];
  Layer bound;
  if (spec.attention.is_latent()) {
    CCOE_ASSIGN_OR_RETURN(bound.latent, BindLatentAttention(spec_, layer, *weights_));
  } else {
    CCOE_ASSIGN_OR_RETURN(bound.attention, BindAttention(spec_, layer, *weights_));
  }
  if (spec.ffn.is_moe()) {
    CCOE_ASSIGN_OR_RETURN(bound.moe, BindMoe(spec_, layer, *weights_));
    CCOE_ASSIGN_OR_RETURN(bound.experts, BindExperts(spec_, layer, experts, *weights_));
    bound.holds_all = std::none_of(bound.experts.begin(), bound.experts.end(),
                                   [](const FfnExpertWeights& e) { return e.gate.empty(); });
  } else {
    CCOE_ASSIGN_OR_RETURN(bound.ffn, BindFfn(spec_, layer, *weights_));
  }
  return bound;
}

absl::Status Decoder::CheckPass(LayerRange range, const KvStorage& kv, int64_t rows,
                                kernels::ConstMatrix hidden) const {
  if (!layers_.Contains(range) || !kv.layers().Contains(range)) {
    return absl::InvalidArgumentError(
        absl::StrCat("decoder: expected layers within ", RangeText(layers_), " and the KV cache's ",
                     RangeText(kv.layers()), ", found ", RangeText(range)));
  }
  if (hidden.rows != rows || hidden.cols != spec_.hidden_size ||
      hidden.dtype != kernels::DType::kF32) {
    return absl::InvalidArgumentError(
        absl::StrCat("decoder: hidden: expected [", rows, ", ", spec_.hidden_size, "] f32, found [",
                     hidden.rows, ", ", hidden.cols, "] ", kernels::DTypeName(hidden.dtype)));
  }
  return absl::OkStatus();
}

// A row a sequence, through layers that need nothing from the host on their way: what a device may
// capture once and replay.
absl::Status Decoder::Run(LayerRange range, const RowBatch& batch, const KvStorage& kv,
                          kernels::Ops& ops, DecoderScratch& scratch,
                          kernels::Matrix hidden) const {
  CCOE_RETURN_IF_ERROR(CheckPass(range, kv, batch.rows(), hidden));
  if (batch.rows() == 0) return absl::OkStatus();
  CCOE_ASSIGN_OR_RETURN(scratch.ended_, BeginPass(batch, kv, ops, std::move(scratch.ended_)));
  const DecoderPass& pass = scratch.ended_;
  if (!IsPlainDecode(batch) || !StaysOnDevice(range)) {
    return RunLayers(range, pass, ops, scratch, hidden, [](int32_t, kernels::ConstMatrix) {});
  }
  CCOE_RETURN_IF_ERROR(ReserveAll(range, batch.rows(), scratch));
  absl::Status status;
  const auto layers = [&] {
    status = absl::OkStatus();
    for (int32_t i = range.first; i < range.last && status.ok(); ++i) {
      status = RunAttention(i, pass, ops, scratch, hidden);
      if (status.ok()) status = RunFfn(i, pass, ops, scratch, hidden);
    }
  };
  ops.RunCaptured(absl::HashOf(this, hidden.data, range.first, range.last, batch.rows(),
                               scratch.choices_.rows_apart()),
                  layers);
  return status;
}

absl::Status Decoder::RunLayers(LayerRange range, const DecoderPass& pass, kernels::Ops& ops,
                                DecoderScratch& scratch, kernels::Matrix hidden,
                                LayerObserver observer) const {
  for (int32_t i = range.first; i < range.last; ++i) {
    CCOE_RETURN_IF_ERROR(RunAttention(i, pass, ops, scratch, hidden));
    CCOE_RETURN_IF_ERROR(RunFfn(i, pass, ops, scratch, hidden));
    observer(i, hidden);
  }
  return absl::OkStatus();
}

absl::StatusOr<DecoderPass> Decoder::BeginPass(const RowBatch& batch, const KvStorage& kv,
                                               kernels::Ops& ops, DecoderPass ended) const {
  return DecoderPass::Begin(spec_, rope_frequencies_, batch, kv, ops, std::move(ended));
}

absl::Status Decoder::RunAttention(int32_t layer, const DecoderPass& pass, kernels::Ops& ops,
                                   DecoderScratch& scratch, kernels::Matrix hidden) const {
  const int64_t rows = pass.rows();
  CCOE_RETURN_IF_ERROR(CheckPass({layer, layer + 1}, *pass.kv, rows, hidden));
  if (rows == 0) return absl::OkStatus();
  CCOE_RETURN_IF_ERROR(scratch.Reserve(scratch_widths_, rows));
  AttentionRows attention_rows;
  attention_rows.sequences = pass.batch.sequences;
  attention_rows.slots = pass.slots;
  attention_rows.cos = ScratchView(pass.cos, rows, pass.half_rotary);
  attention_rows.sin = ScratchView(pass.sin, rows, pass.half_rotary);
  attention_rows.rope_style = spec_.rope.style;
  attention_rows.norm_eps = spec_.norm_eps;
  attention_rows.cache = pass.kv->Layer(layer);

  const AttentionSpec& spec = spec_.layers[static_cast<size_t>(layer)].attention;
  const Layer& bound = BoundLayer(layer);
  const int64_t q_size = spec.heads * spec.head_dim;
  const int64_t kv_size = spec.kv_heads * spec.head_dim;
  const kernels::Matrix normed = ScratchView(scratch.normed_, rows, spec_.hidden_size);
  const kernels::Matrix q = ScratchView(scratch.q_, rows, q_size);
  const kernels::Matrix k = ScratchView(scratch.k_, rows, kv_size);
  const kernels::Matrix attended = ScratchView(scratch.attention_, rows, q_size);
  if (spec.is_latent()) {
    const LatentSpec& latent = spec.latent;
    RunLatentAttention(spec, bound.latent, attention_rows,
                       {normed, ScratchView(scratch.q_down_, rows, latent.q_rank),
                        ScratchView(scratch.nope_, rows, spec.heads * latent.nope_dim), q, k,
                        attended, ScratchView(scratch.v_, rows, spec.heads * latent.value_dim)},
                       ops, hidden);
  } else {
    model::RunAttention(spec, bound.attention, attention_rows,
                        {normed, q, k, ScratchView(scratch.v_, rows, kv_size), attended}, ops,
                        hidden);
  }
  return absl::OkStatus();
}

absl::Status Decoder::RunFfn(int32_t layer, const DecoderPass& pass, kernels::Ops& ops,
                             DecoderScratch& scratch, kernels::Matrix hidden) const {
  const int64_t rows = pass.rows();
  CCOE_RETURN_IF_ERROR(CheckPass({layer, layer + 1}, *pass.kv, rows, hidden));
  if (rows == 0) return absl::OkStatus();
  const FfnSpec& spec = spec_.layers[static_cast<size_t>(layer)].ffn;
  if (spec.is_moe()) {
    if (pass.steering != nullptr || !HoldsAll(layer)) {
      return RunMoeByHost(layer, pass, ops, scratch, hidden);
    }
    CCOE_RETURN_IF_ERROR(scratch.choices_.Begin(spec_, layers_, rows));
    const Layer& bound = BoundLayer(layer);
    return RunMoeBlock({spec_, layer, bound.moe}, bound.experts, scratch.choices_.Keep(layer, rows),
                       ops, scratch.moe_, hidden);
  }
  CCOE_RETURN_IF_ERROR(scratch.Reserve(scratch_widths_, rows));
  model::RunFfn(spec, BoundLayer(layer).ffn, spec_.norm_eps,
                {ScratchView(scratch.normed_, rows, spec_.hidden_size),
                 ScratchView(scratch.gate_, rows, spec.intermediate),
                 ScratchView(scratch.up_, rows, spec.intermediate)},
                ops, hidden);
  return absl::OkStatus();
}

// Where the host must see what is chosen.
absl::Status Decoder::RunMoeByHost(int32_t layer, const DecoderPass& pass, kernels::Ops& ops,
                                   DecoderScratch& scratch, kernels::Matrix hidden) const {
  CCOE_ASSIGN_OR_RETURN(const RoutedRows routed, Route(layer, pass, ops, scratch, hidden));
  std::vector<int32_t> rows(routed.experts.size()), out_rows(routed.experts.size());
  for (size_t row = 0; row + 1 < routed.offsets.size(); ++row) {
    for (int32_t i = routed.offsets[row]; i < routed.offsets[row + 1]; ++i) {
      rows[static_cast<size_t>(i)] = static_cast<int32_t>(row);
    }
  }
  std::iota(out_rows.begin(), out_rows.end(), 0);
  kernels::Buffer& buffer = scratch.moe_.contributions;
  CCOE_RETURN_IF_ERROR(GrowScratch(scratch.device_, routed.pairs() * spec_.hidden_size, buffer));
  const kernels::Matrix contributions = ScratchView(buffer, routed.pairs(), spec_.hidden_size);
  CCOE_RETURN_IF_ERROR(RunHeldExperts(layer,
                                      {routed.rows, rows, routed.experts, routed.weights, out_rows},
                                      ops, scratch, contributions));
  kernels::Matrix shared;
  if (has_shared_expert(layer)) {
    CCOE_RETURN_IF_ERROR(scratch.Reserve(scratch_widths_, pass.rows()));
    shared = ScratchView(scratch.normed_, pass.rows(), spec_.hidden_size);
    CCOE_RETURN_IF_ERROR(RunSharedExpert(layer, routed.rows, ops, scratch, shared));
  }
  return FinishMoe(layer, {contributions, routed.offsets}, shared, ops, scratch, hidden);
}

absl::StatusOr<RoutedRows> Decoder::Route(int32_t layer, const DecoderPass& pass, kernels::Ops& ops,
                                          DecoderScratch& scratch,
                                          kernels::ConstMatrix hidden) const {
  CCOE_RETURN_IF_ERROR(CheckPass({layer, layer + 1}, *pass.kv, pass.rows(), hidden));
  CCOE_RETURN_IF_ERROR(CheckMoe(layer));
  return RouteRows({spec_, layer, BoundLayer(layer).moe}, pass.steering, hidden, ops, scratch.moe_);
}

absl::Status Decoder::RunHeldExperts(int32_t layer, const ExpertPairs& pairs, kernels::Ops& ops,
                                     DecoderScratch& scratch, kernels::Matrix out) const {
  CCOE_RETURN_IF_ERROR(CheckMoe(layer));
  for (const int32_t expert : pairs.experts) {
    if (Holds(layer, expert)) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("decoder: layer ", layer, ": FFN expert ", expert, " is not held here"));
  }
  return RunFfnExperts(spec_.layers[static_cast<size_t>(layer)].ffn, BoundLayer(layer).experts,
                       pairs, ops, scratch.moe_, out);
}

bool Decoder::has_shared_expert(int32_t layer) const {
  const FfnSpec& ffn = spec_.layers[static_cast<size_t>(layer)].ffn;
  return ffn.is_moe() && ffn.moe.shared != SharedExpert::kNone;
}

absl::Status Decoder::RunSharedExpert(int32_t layer, kernels::ConstMatrix rows, kernels::Ops& ops,
                                      DecoderScratch& scratch, kernels::Matrix out) const {
  CCOE_RETURN_IF_ERROR(CheckMoe(layer));
  return model::RunSharedExpert({spec_, layer, BoundLayer(layer).moe}, rows, ops, scratch.moe_,
                                out);
}

absl::Status Decoder::FinishMoe(int32_t layer, const PairOutputs& contributions,
                                kernels::ConstMatrix shared, kernels::Ops& ops,
                                DecoderScratch& scratch, kernels::Matrix hidden) const {
  CCOE_RETURN_IF_ERROR(CheckMoe(layer));
  return model::FinishMoe({spec_, layer, BoundLayer(layer).moe}, contributions, shared, ops,
                          scratch.moe_, hidden);
}

bool Decoder::Holds(int32_t layer, int32_t expert) const {
  if (layer < layers_.first || layer >= layers_.last || expert < 0) return false;
  const std::vector<FfnExpertWeights>& experts = BoundLayer(layer).experts;
  return static_cast<size_t>(expert) < experts.size() &&
         !experts[static_cast<size_t>(expert)].gate.empty();
}

bool Decoder::HoldsAll(int32_t layer) const {
  return layer >= layers_.first && layer < layers_.last && BoundLayer(layer).holds_all;
}

absl::Status Decoder::CheckMoe(int32_t layer) const {
  if (layer >= layers_.first && layer < layers_.last &&
      spec_.layers[static_cast<size_t>(layer)].ffn.is_moe()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("decoder: layer ", layer,
                                                 ": expected a layer of FFN experts within [",
                                                 layers_.first, ", ", layers_.last, ")"));
}

const Decoder::Layer& Decoder::BoundLayer(int32_t layer) const {
  return bound_[static_cast<size_t>(layer - layers_.first)];
}

}  // namespace ccoe::model
