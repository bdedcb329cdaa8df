// A pass's feed-forward blocks, dense or of experts.
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/decoder.h"
#include "runtime/model/decoder_layer.h"
#include "runtime/model/scratch.h"

namespace ccoe::model {

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
    const MoeBlock block{&bound.moe, bound.experts, scratch.choices_.Keep(layer, rows)};
    return RunMoeBlock(spec_, layer, block, ops, scratch.moe_, hidden);
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
  CCOE_RETURN_IF_ERROR(RunHeldExperts(layer, {rows, routed.experts, routed.weights, out_rows},
                                      routed.rows, ops, scratch, contributions));
  kernels::Matrix shared;
  if (has_shared_expert(layer)) {
    CCOE_RETURN_IF_ERROR(scratch.Reserve(scratch_widths_, pass.rows()));
    shared = ScratchView(scratch.normed_, pass.rows(), spec_.hidden_size);
    CCOE_RETURN_IF_ERROR(RunSharedExpert(layer, routed.rows, ops, scratch, shared));
  }
  return FinishMoe(layer, contributions, routed.offsets, shared, ops, scratch, hidden);
}

absl::StatusOr<RoutedRows> Decoder::Route(int32_t layer, const DecoderPass& pass, kernels::Ops& ops,
                                          DecoderScratch& scratch,
                                          kernels::ConstMatrix hidden) const {
  CCOE_RETURN_IF_ERROR(CheckPass({layer, layer + 1}, *pass.kv, pass.rows(), hidden));
  CCOE_RETURN_IF_ERROR(CheckMoe(layer));
  return RouteRows(spec_, layer, BoundLayer(layer).moe, pass.steering, hidden, ops, scratch.moe_);
}

absl::Status Decoder::RunHeldExperts(int32_t layer, const ExpertPairs& pairs,
                                     kernels::ConstMatrix rows, kernels::Ops& ops,
                                     DecoderScratch& scratch, kernels::Matrix out) const {
  CCOE_RETURN_IF_ERROR(CheckMoe(layer));
  for (const int32_t expert : pairs.experts) {
    if (Holds(layer, expert)) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("decoder: layer ", layer, ": FFN expert ", expert, " is not held here"));
  }
  return RunFfnExperts(spec_.layers[static_cast<size_t>(layer)].ffn, BoundLayer(layer).experts,
                       pairs, rows, ops, scratch.moe_, out);
}

bool Decoder::has_shared_expert(int32_t layer) const {
  const FfnSpec& ffn = spec_.layers[static_cast<size_t>(layer)].ffn;
  return ffn.is_moe() && ffn.moe.shared != SharedExpert::kNone;
}

absl::Status Decoder::RunSharedExpert(int32_t layer, kernels::ConstMatrix rows, kernels::Ops& ops,
                                      DecoderScratch& scratch, kernels::Matrix out) const {
  CCOE_RETURN_IF_ERROR(CheckMoe(layer));
  return model::RunSharedExpert(spec_, layer, BoundLayer(layer).moe, rows, ops, scratch.moe_, out);
}

absl::Status Decoder::FinishMoe(int32_t layer, kernels::ConstMatrix contributions,
                                absl::Span<const int32_t> offsets, kernels::ConstMatrix shared,
                                kernels::Ops& ops, DecoderScratch& scratch,
                                kernels::Matrix hidden) const {
  CCOE_RETURN_IF_ERROR(CheckMoe(layer));
  return model::FinishMoe(spec_, layer, BoundLayer(layer).moe, contributions, offsets, shared, ops,
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
