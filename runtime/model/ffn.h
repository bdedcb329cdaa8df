// SPDX-License-Identifier: Apache-2.0
// The feed-forward block of a decoder layer, dense:
//
//   hidden += post_norm?( down(activation(gate(norm(hidden))) * up(norm(hidden))) )
//
// or a mixture of experts, in the parts at which a pass may be suspended: route (gate and top-k),
// the experts, and what brings their contributions back together:
//
//   hidden += post_norm?( sum over chosen e, in rising order, of w_e * E_e(norm(hidden)) + shared )
#ifndef CCOE_RUNTIME_MODEL_FFN_H_
#define CCOE_RUNTIME_MODEL_FFN_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/ops.h"
#include "runtime/model/block.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"

namespace ccoe::model {

// Views into a Weights. Biases and the post norm are empty where the spec has none.
struct FfnWeights {
  kernels::ConstMatrix norm, post_norm;  // [1, hidden]
  kernels::ConstMatrix gate, up;         // [intermediate, hidden]
  kernels::ConstMatrix down;             // [hidden, intermediate]
  kernels::ConstMatrix gate_bias, up_bias, down_bias;
};

// The tensors of layer `layer`, checked. Errors name the tensor.
absl::StatusOr<FfnWeights> BindFfn(const ModelSpec& spec, int32_t layer, const Weights& weights);

// Scratch, f32: normed [rows, hidden]; gate and up [rows, intermediate].
struct FfnScratch {
  kernels::Matrix normed, gate, up;
};

// `hidden` [rows, hidden_size] f32 in place.
void RunFfn(const FfnSpec& spec, const FfnWeights& weights, float norm_eps,
            const FfnScratch& scratch, kernels::Ops& ops, kernels::Matrix hidden);

// Views into a Weights. Matrices of one FFN expert, routed or shared.
using FfnExpertWeights = kernels::ExpertMatrices;

// The tensors of expert `expert` of layer `layer`, checked. Errors name the tensor.
absl::StatusOr<FfnExpertWeights> BindFfnExpert(const ModelSpec& spec, int32_t layer, int32_t expert,
                                               const Weights& weights);

// What stays with the backbone of a MoE layer: norms, gate, shared expert.
struct MoeWeights {
  kernels::ConstMatrix norm, post_norm;  // [1, hidden]; post_norm empty without post_norms
  kernels::ConstMatrix router;           // [experts, hidden]
  kernels::ConstMatrix correction_bias;  // [1, experts] or empty
  FfnExpertWeights shared;               // empty views without a shared expert
  kernels::ConstMatrix shared_gate;      // [1, hidden], with kSigmoidGated
};

// One MoE layer of a model, as the functions below want it. Short-lived: views both.
struct MoeLayer {
  const ModelSpec& spec;
  int32_t layer;
  const MoeWeights& weights;

  const FfnSpec& ffn() const { return spec.layers[static_cast<size_t>(layer)].ffn; }
};

// INVALID_ARGUMENT also where the router's rows disagree with the config's number of experts.
absl::StatusOr<MoeWeights> BindMoe(const ModelSpec& spec, int32_t layer, const Weights& weights);

// Per-request control of the rows of a pass: see kernels::TopKGateArgs. Empty: none.
struct GateSteering {
  std::vector<int32_t> row_k;
  std::vector<float> steering;  // [n, experts] of the layer
  std::vector<int32_t> row_steering;
};

// Where the rows of a pass go at one MoE layer. Host memory but for `rows`.
struct RoutedRows {
  int32_t layer = 0;
  kernels::ConstMatrix rows;     // [rows, hidden] f32, the experts' input; device memory of the
                                 // scratch that routed them, good until its next use
  std::vector<int32_t> offsets;  // [rows + 1]: row r is pairs [offsets[r], offsets[r + 1])
  std::vector<int32_t> experts;  // [pairs], rising within a row
  std::vector<float> weights;    // [pairs]

  int64_t pairs() const { return static_cast<int64_t>(experts.size()); }
};

// normed = norm(hidden), gate, top-k. Waits for the device: the result is host memory.
// `steering` may be null.
absl::StatusOr<RoutedRows> RouteRows(const MoeLayer& layer, const GateSteering* steering,
                                     kernels::ConstMatrix hidden, kernels::Ops& ops,
                                     MoeScratch& scratch);

// Some (row, expert) pairs for RunFfnExperts.
struct ExpertPairs {
  kernels::ConstMatrix x;             // [.., hidden] f32, device memory
  absl::Span<const int32_t> rows;     // of x
  absl::Span<const int32_t> experts;  // in any order
  absl::Span<const float> weights;
  absl::Span<const int32_t> out_rows;  // distinct rows of `out`
};

// Runs each pair through its expert, as kernels::GroupedFfn. `expert_weights[e]` is expert e's;
// those of experts that occur must be set. `out` [.., hidden] f32 in device memory. Used by the
// backbone for experts of its own and by the expert worker: the same bits.
absl::Status RunFfnExperts(const FfnSpec& ffn, absl::Span<const FfnExpertWeights> expert_weights,
                           const ExpertPairs& pairs, kernels::Ops& ops, MoeScratch& scratch,
                           kernels::Matrix out);

// The shared expert's output, ready to be added: out [rows, hidden]. Only with a shared expert.
absl::Status RunSharedExpert(const MoeLayer& layer, kernels::ConstMatrix rows, kernels::Ops& ops,
                             MoeScratch& scratch, kernels::Matrix out);

// What the experts gave: a contribution for each pair, in the order of RoutedRows.
struct PairOutputs {
  kernels::ConstMatrix rows;          // [pairs, hidden] f32, device memory
  absl::Span<const int32_t> offsets;  // as RoutedRows::offsets
};

// hidden += post_norm?( combine(contributions) + shared ). `shared` [rows, hidden] or empty.
absl::Status FinishMoe(const MoeLayer& layer, const PairOutputs& contributions,
                       kernels::ConstMatrix shared, kernels::Ops& ops, MoeScratch& scratch,
                       kernels::Matrix hidden);

// RouteRows, RunFfnExperts, RunSharedExpert and FinishMoe at once, with the same bits, for a layer
// all of whose `experts` are here. `chosen`, device memory [rows, top_k], gets the gate's choice,
// unsteered. It stays there: nothing is waited for, and nothing allocated where MoeScratch::Reserve
// made room, so that it can be part of a captured step.
absl::Status RunMoeBlock(const MoeLayer& layer, absl::Span<const FfnExpertWeights> experts,
                         int32_t* chosen, kernels::Ops& ops, MoeScratch& scratch,
                         kernels::Matrix hidden);

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_FFN_H_
