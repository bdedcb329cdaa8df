// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/ffn.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/block.h"

namespace ccoe::model {
namespace {

const LayerSpec& LayerOf(const ModelSpec& spec, int32_t layer) {
  return spec.layers[static_cast<size_t>(layer)];
}

// The matrices of the expert whose names begin with `prefix` (behind the layer's).
absl::StatusOr<FfnExpertWeights> BindMatrices(const ModelSpec& spec, const std::string& prefix,
                                              int64_t width, const LayerTensors& tensors) {
  const TensorNames& names = spec.names;
  const int64_t hidden = spec.hidden_size;
  FfnExpertWeights bound;
  CCOE_ASSIGN_OR_RETURN(bound.gate, tensors.Matrix(prefix + names.expert_gate, width, hidden));
  CCOE_ASSIGN_OR_RETURN(bound.up, tensors.Matrix(prefix + names.expert_up, width, hidden));
  CCOE_ASSIGN_OR_RETURN(bound.down, tensors.Matrix(prefix + names.expert_down, hidden, width));
  return bound;
}

// The gate's rows, and an expert behind the last one, tell a checkpoint with another number of
// experts from a damaged one.
absl::Status CheckExpertCount(const ModelSpec& spec, int32_t layer, const Weights& weights) {
  const MoeSpec& moe = LayerOf(spec, layer).ffn.moe;
  const std::string router = LayerPrefix(spec.names, layer) + WeightName(spec.names.router);
  CCOE_ASSIGN_OR_RETURN(const TensorView view, weights.Raw(router));
  if (view.shape.size() == 2 && view.shape[0] != moe.experts) {
    return absl::InvalidArgumentError(
        absl::StrCat(weights.folder(), ": tensor ", router, ": expected a row for each of the ",
                     moe.experts, " FFN experts the config names, found ", view.shape[0], " rows"));
  }
  const std::string extra = ExpertPrefix(spec.names, layer, static_cast<int32_t>(moe.experts)) +
                            WeightName(spec.names.expert_gate);
  if (!weights.Has(extra)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(weights.folder(), ": tensor ", extra,
                                                 ": expected FFN experts 0 to ", moe.experts - 1,
                                                 ", as many as the config names, found more"));
}

// Pairs from device memory, those that rows left out dropped.
RoutedRows Compact(int32_t layer, int64_t rows, int64_t top_k, absl::Span<const int32_t> experts,
                   absl::Span<const float> weights) {
  RoutedRows routed;
  routed.layer = layer;
  routed.offsets.reserve(static_cast<size_t>(rows) + 1);
  routed.experts.reserve(experts.size());
  routed.weights.reserve(weights.size());
  routed.offsets.push_back(0);
  for (size_t i = 0; i < experts.size(); ++i) {
    if (experts[i] >= 0) {
      routed.experts.push_back(experts[i]);
      routed.weights.push_back(weights[i]);
    }
    if ((i + 1) % static_cast<size_t>(top_k) == 0) {
      routed.offsets.push_back(static_cast<int32_t>(routed.experts.size()));
    }
  }
  return routed;
}

// Pairs in order of expert; those of one expert stay in the order they came in.
struct SortedPairs {
  std::vector<kernels::ExpertGroup> groups;
  std::vector<int32_t> x_rows, out_rows;
  std::vector<float> weights;
};

SortedPairs SortByExpert(absl::Span<const FfnExpertWeights> expert_weights,
                         const ExpertPairs& pairs) {
  std::vector<int64_t> next(expert_weights.size() + 1);
  for (const int32_t expert : pairs.experts) {
    CCOE_CHECK(expert >= 0 && static_cast<size_t>(expert) < expert_weights.size());
    ++next[static_cast<size_t>(expert) + 1];
  }
  SortedPairs sorted;
  for (size_t e = 0; e < expert_weights.size(); ++e) {
    const int64_t count = next[e + 1];
    next[e + 1] += next[e];
    if (count == 0) continue;
    const FfnExpertWeights& weights = expert_weights[e];
    CCOE_CHECK(!weights.gate.empty() && !weights.up.empty() && !weights.down.empty());
    sorted.groups.push_back({weights.gate, weights.up, weights.down, next[e], count});
  }
  sorted.x_rows.resize(pairs.experts.size());
  sorted.out_rows.resize(pairs.experts.size());
  sorted.weights.resize(pairs.experts.size());
  for (size_t i = 0; i < pairs.experts.size(); ++i) {
    const auto to = static_cast<size_t>(next[static_cast<size_t>(pairs.experts[i])]++);
    sorted.x_rows[to] = pairs.rows[i];
    sorted.out_rows[to] = pairs.out_rows[i];
    sorted.weights[to] = pairs.weights[i];
  }
  return sorted;
}

// norm(hidden), which is returned; gate; top-k into `chosen` and scratch.weights. There is room.
// `steering` may be null.
kernels::Matrix RunGate(const MoeLayer& layer, const GateSteering* steering, int32_t* chosen,
                        kernels::ConstMatrix hidden, kernels::Ops& ops, MoeScratch& scratch) {
  const MoeSpec& moe = layer.ffn().moe;
  const kernels::Matrix normed = ScratchView(scratch.normed, hidden.rows, layer.spec.hidden_size);
  const kernels::Matrix logits = ScratchView(scratch.logits, hidden.rows, moe.experts);
  ops.RmsNorm(hidden, layer.weights.norm, layer.spec.norm_eps, normed);
  const kernels::LinearPart router[] = {{layer.weights.router, {}, logits, /*accumulate=*/false}};
  ops.Linear(normed, router);
  kernels::TopKGateArgs gate;
  gate.logits = logits;
  gate.form = moe.gate;
  gate.selection_bias = layer.weights.correction_bias;
  if (steering != nullptr) {
    const auto forms = static_cast<int64_t>(steering->steering.size()) / moe.experts;
    gate.row_k = steering->row_k;
    gate.steering = kernels::F32Matrix(steering->steering.data(), forms, moe.experts);
    gate.row_steering = steering->row_steering;
  }
  gate.experts = chosen;
  gate.weights = scratch.weights.f32();
  ops.TopKGate(gate);
  return normed;
}

// hidden += post_norm?( sum + shared ). `shared` may be empty; `sum` is overwritten.
void AddToHidden(const MoeLayer& layer, kernels::ConstMatrix shared, kernels::Ops& ops,
                 kernels::Matrix sum, kernels::Matrix hidden) {
  if (!shared.empty()) ops.AddRows(shared, sum);
  if (LayerOf(layer.spec, layer.layer).post_norms) {
    ops.AddRmsNorm(sum, layer.weights.post_norm, layer.spec.norm_eps, hidden);
  } else {
    ops.AddRows(sum, hidden);
  }
}

}  // namespace

absl::StatusOr<FfnWeights> BindFfn(const ModelSpec& spec, int32_t layer, const Weights& weights) {
  const LayerSpec& layer_spec = spec.layers[static_cast<size_t>(layer)];
  const TensorNames& names = spec.names;
  const LayerTensors tensors(spec, layer, weights);
  const int64_t hidden = spec.hidden_size;
  const int64_t width = layer_spec.ffn.intermediate;
  FfnWeights bound;
  CCOE_ASSIGN_OR_RETURN(bound.norm, tensors.Norm(names.ffn_norm, hidden));
  CCOE_ASSIGN_OR_RETURN(bound.gate, tensors.Matrix(names.gate, width, hidden));
  CCOE_ASSIGN_OR_RETURN(bound.up, tensors.Matrix(names.up, width, hidden));
  CCOE_ASSIGN_OR_RETURN(bound.down, tensors.Matrix(names.down, hidden, width));
  if (layer_spec.post_norms) {
    CCOE_ASSIGN_OR_RETURN(bound.post_norm, tensors.Norm(names.ffn_post_norm, hidden));
  }
  if (layer_spec.ffn.bias) {
    CCOE_ASSIGN_OR_RETURN(bound.gate_bias, tensors.Bias(names.gate, width));
    CCOE_ASSIGN_OR_RETURN(bound.up_bias, tensors.Bias(names.up, width));
    CCOE_ASSIGN_OR_RETURN(bound.down_bias, tensors.Bias(names.down, hidden));
  }
  return bound;
}

void RunFfn(const FfnSpec& spec, const FfnWeights& weights, float norm_eps,
            const FfnScratch& scratch, kernels::Ops& ops, kernels::Matrix hidden) {
  ops.RmsNorm(hidden, weights.norm, norm_eps, scratch.normed);
  const kernels::LinearPart projections[] = {
      {weights.gate, weights.gate_bias, scratch.gate, /*accumulate=*/false},
      {weights.up, weights.up_bias, scratch.up, /*accumulate=*/false},
  };
  ops.Linear(scratch.normed, projections);
  ops.GatedActivation(spec.activation, scratch.gate, scratch.up, scratch.gate);
  AddBlockOutput({weights.down, weights.down_bias, weights.post_norm, norm_eps}, scratch.gate,
                 scratch.normed, ops, hidden);
}

absl::StatusOr<FfnExpertWeights> BindFfnExpert(const ModelSpec& spec, int32_t layer, int32_t expert,
                                               const Weights& weights) {
  return BindMatrices(spec, absl::StrCat(spec.names.expert_prefix, expert, "."),
                      LayerOf(spec, layer).ffn.moe.intermediate,
                      LayerTensors(spec, layer, weights));
}

absl::StatusOr<MoeWeights> BindMoe(const ModelSpec& spec, int32_t layer, const Weights& weights) {
  const LayerSpec& layer_spec = LayerOf(spec, layer);
  const MoeSpec& moe = layer_spec.ffn.moe;
  const TensorNames& names = spec.names;
  const LayerTensors tensors(spec, layer, weights);
  const int64_t hidden = spec.hidden_size;
  CCOE_RETURN_IF_ERROR(CheckExpertCount(spec, layer, weights));
  MoeWeights bound;
  CCOE_ASSIGN_OR_RETURN(bound.norm, tensors.Norm(names.ffn_norm, hidden));
  CCOE_ASSIGN_OR_RETURN(bound.router, tensors.Matrix(names.router, moe.experts, hidden));
  if (layer_spec.post_norms) {
    CCOE_ASSIGN_OR_RETURN(bound.post_norm, tensors.Norm(names.ffn_post_norm, hidden));
  }
  if (moe.correction_bias) {
    CCOE_ASSIGN_OR_RETURN(bound.correction_bias,
                          weights.Vector(tensors.prefix() + names.correction_bias, moe.experts));
  }
  if (moe.shared == SharedExpert::kNone) return bound;
  CCOE_ASSIGN_OR_RETURN(bound.shared,
                        BindMatrices(spec, names.shared_prefix, moe.shared_intermediate, tensors));
  if (moe.shared == SharedExpert::kSigmoidGated) {
    CCOE_ASSIGN_OR_RETURN(bound.shared_gate, tensors.Matrix(names.shared_gate, 1, hidden));
  }
  return bound;
}

absl::StatusOr<RoutedRows> RouteRows(const MoeLayer& layer, const GateSteering* steering,
                                     kernels::ConstMatrix hidden, kernels::Ops& ops,
                                     MoeScratch& scratch) {
  const MoeSpec& moe = layer.ffn().moe;
  const int64_t rows = hidden.rows;
  const int64_t pairs = rows * moe.gate.top_k;
  if (rows == 0) return Compact(layer.layer, 0, moe.gate.top_k, {}, {});
  CCOE_RETURN_IF_ERROR(GrowScratch(scratch.device, rows * layer.spec.hidden_size, scratch.normed));
  CCOE_RETURN_IF_ERROR(GrowScratch(scratch.device, rows * moe.experts, scratch.logits));
  CCOE_RETURN_IF_ERROR(GrowScratch(scratch.device, pairs, scratch.experts));
  CCOE_RETURN_IF_ERROR(GrowScratch(scratch.device, pairs, scratch.weights));

  auto* const chosen = static_cast<int32_t*>(scratch.experts.data());
  const kernels::Matrix normed = RunGate(layer, steering, chosen, hidden, ops, scratch);
  CCOE_RETURN_IF_ERROR(ops.Synchronize());

  std::vector<int32_t> experts(static_cast<size_t>(pairs));
  std::vector<float> pair_weights(static_cast<size_t>(pairs));
  CCOE_RETURN_IF_ERROR(
      scratch.device->CopyToHost(chosen, experts.data(), experts.size() * sizeof(int32_t)));
  CCOE_RETURN_IF_ERROR(scratch.device->CopyToHost(scratch.weights.data(), pair_weights.data(),
                                                  pair_weights.size() * sizeof(float)));
  RoutedRows routed = Compact(layer.layer, rows, moe.gate.top_k, experts, pair_weights);
  routed.rows = normed;
  return routed;
}

absl::Status RunFfnExperts(const FfnSpec& ffn, absl::Span<const FfnExpertWeights> expert_weights,
                           const ExpertPairs& pairs, kernels::Ops& ops, MoeScratch& scratch,
                           kernels::Matrix out) {
  CCOE_CHECK(pairs.rows.size() == pairs.experts.size() &&
             pairs.weights.size() == pairs.experts.size() &&
             pairs.out_rows.size() == pairs.experts.size());
  if (pairs.experts.empty()) return absl::OkStatus();
  const auto count = static_cast<int64_t>(pairs.experts.size());
  const int64_t width = ffn.moe.intermediate;
  CCOE_RETURN_IF_ERROR(GrowScratch(scratch.device, count * pairs.x.cols, scratch.inputs));
  CCOE_RETURN_IF_ERROR(GrowScratch(scratch.device, count * width, scratch.gate));
  CCOE_RETURN_IF_ERROR(GrowScratch(scratch.device, count * width, scratch.up));

  const SortedPairs sorted = SortByExpert(expert_weights, pairs);
  kernels::GroupedFfnArgs args;
  args.x = pairs.x;
  args.groups = sorted.groups;
  args.activation = ffn.activation;
  args.x_rows = sorted.x_rows;
  args.out_rows = sorted.out_rows;
  args.weights = sorted.weights;
  args.inputs = ScratchView(scratch.inputs, count, pairs.x.cols);
  args.gate = ScratchView(scratch.gate, count, width);
  args.up = ScratchView(scratch.up, count, width);
  args.out = out;
  ops.GroupedFfn(args);
  return absl::OkStatus();
}

absl::Status RunSharedExpert(const MoeLayer& layer, kernels::ConstMatrix rows, kernels::Ops& ops,
                             MoeScratch& scratch, kernels::Matrix out) {
  const FfnSpec& ffn = layer.ffn();
  const int64_t width = ffn.moe.shared_intermediate;
  CCOE_CHECK(ffn.moe.shared != SharedExpert::kNone);
  CCOE_RETURN_IF_ERROR(GrowScratch(scratch.device, rows.rows * width, scratch.gate));
  CCOE_RETURN_IF_ERROR(GrowScratch(scratch.device, rows.rows * width, scratch.up));
  CCOE_RETURN_IF_ERROR(GrowScratch(scratch.device, rows.rows, scratch.shared_weight));

  const kernels::Matrix gate = ScratchView(scratch.gate, rows.rows, width);
  const kernels::Matrix up = ScratchView(scratch.up, rows.rows, width);
  const kernels::LinearPart projections[] = {
      {layer.weights.shared.gate, {}, gate, /*accumulate=*/false},
      {layer.weights.shared.up, {}, up, /*accumulate=*/false},
  };
  ops.Linear(rows, projections);
  ops.GatedActivation(ffn.activation, gate, up, gate);
  const kernels::LinearPart down[] = {{layer.weights.shared.down, {}, out, /*accumulate=*/false}};
  ops.Linear(gate, down);
  if (ffn.moe.shared == SharedExpert::kSigmoidGated) {
    const kernels::Matrix weight = ScratchView(scratch.shared_weight, rows.rows, 1);
    const kernels::LinearPart part[] = {
        {layer.weights.shared_gate, {}, weight, /*accumulate=*/false}};
    ops.Linear(rows, part);
    ops.ScaleRowsBySigmoid(weight, out);
  }
  return absl::OkStatus();
}

absl::Status FinishMoe(const MoeLayer& layer, const PairOutputs& contributions,
                       kernels::ConstMatrix shared, kernels::Ops& ops, MoeScratch& scratch,
                       kernels::Matrix hidden) {
  CCOE_RETURN_IF_ERROR(GrowScratch(scratch.device, hidden.rows * hidden.cols, scratch.sum));
  const kernels::Matrix sum = ScratchView(scratch.sum, hidden.rows, hidden.cols);
  ops.CombineRows({contributions.rows, contributions.offsets, sum});
  AddToHidden(layer, shared, ops, sum, hidden);
  return absl::OkStatus();
}

absl::Status RunMoeBlock(const MoeLayer& layer, absl::Span<const FfnExpertWeights> experts,
                         int32_t* chosen, kernels::Ops& ops, MoeScratch& scratch,
                         kernels::Matrix hidden) {
  const ModelSpec& spec = layer.spec;
  const FfnSpec& ffn = layer.ffn();
  const int64_t rows = hidden.rows, pairs = rows * ffn.moe.gate.top_k;
  CCOE_RETURN_IF_ERROR(scratch.ReserveLayer(spec.hidden_size, ffn.moe, rows));
  const kernels::Matrix sum = ScratchView(scratch.sum, rows, spec.hidden_size);
  kernels::MoeFfnArgs args;
  args.x = RunGate(layer, /*steering=*/nullptr, chosen, hidden, ops, scratch);
  args.experts = experts;
  args.activation = ffn.activation;
  args.chosen = chosen;
  args.weights = scratch.weights.f32();
  args.top_k = ffn.moe.gate.top_k;
  args.contributions = ScratchView(scratch.contributions, pairs, spec.hidden_size);
  args.inputs = ScratchView(scratch.inputs, pairs, spec.hidden_size);
  args.gate = ScratchView(scratch.gate, pairs, ffn.moe.intermediate);
  args.up = ScratchView(scratch.up, pairs, ffn.moe.intermediate);
  args.out = sum;
  ops.MoeFfn(args);
  kernels::Matrix shared;
  if (ffn.moe.shared != SharedExpert::kNone) {
    shared = args.contributions.Slice(0, rows);  // they have been added up
    CCOE_RETURN_IF_ERROR(RunSharedExpert(layer, args.x, ops, scratch, shared));
  }
  AddToHidden(layer, shared, ops, sum, hidden);
  return absl::OkStatus();
}

}  // namespace ccoe::model
