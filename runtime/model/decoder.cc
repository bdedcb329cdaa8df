#include "runtime/model/decoder.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/decoder_layer.h"
#include "runtime/model/rope.h"
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
  if (!IsPlainDecode(batch) || !StaysOnDevice(range)) {
    return Run(range, batch, kv, ops, scratch, hidden, [](int32_t, kernels::ConstMatrix) {});
  }
  if (batch.rows() == 0) return absl::OkStatus();
  CCOE_ASSIGN_OR_RETURN(scratch.ended_, BeginPass(batch, kv, ops, std::move(scratch.ended_)));
  const DecoderPass& pass = scratch.ended_;
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

absl::Status Decoder::Run(LayerRange range, const RowBatch& batch, const KvStorage& kv,
                          kernels::Ops& ops, DecoderScratch& scratch, kernels::Matrix hidden,
                          LayerObserver observer) const {
  CCOE_RETURN_IF_ERROR(CheckPass(range, kv, batch.rows(), hidden));
  if (batch.rows() == 0) return absl::OkStatus();
  CCOE_ASSIGN_OR_RETURN(scratch.ended_, BeginPass(batch, kv, ops, std::move(scratch.ended_)));
  const DecoderPass& pass = scratch.ended_;
  for (int32_t i = range.first; i < range.last; ++i) {
    CCOE_RETURN_IF_ERROR(RunAttention(i, pass, ops, scratch, hidden));
    CCOE_RETURN_IF_ERROR(RunFfn(i, pass, ops, scratch, hidden));
    observer(i, hidden);
  }
  return absl::OkStatus();
}

}  // namespace ccoe::model
