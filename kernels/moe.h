// SPDX-License-Identifier: Apache-2.0
// Arguments of the mixture-of-experts ops: gate, grouped feed-forward, combine.
#ifndef CCOE_KERNELS_MOE_H_
#define CCOE_KERNELS_MOE_H_

#include <cstdint>

#include "absl/types/span.h"
#include "kernels/activation.h"
#include "kernels/view.h"

namespace ccoe::kernels {

enum class RouterScore : uint8_t { kSoftmax, kSigmoid };

// How a group of experts is scored from the selection scores of its members.
enum class GroupScore : uint8_t {
  kMax,        // its best expert (DeepSeek-V2, group_limited_greedy)
  kTopTwoSum,  // the sum of its two best (DeepSeek-V3, noaux_tc)
};

// One routing form for all families: score all experts, choose top_k by the selection score (within
// the best groups where there are some), weight by the score: renormalised or not, times `scale`.
struct GateForm {
  RouterScore score = RouterScore::kSoftmax;
  int64_t top_k = 0;         // <= experts
  bool renormalize = false;  // the chosen weights are divided by their sum (unless it is zero),
                             // before `scale`
  float scale = 1.0f;
  int64_t groups = 1;      // divides the number of experts; 1: no groups
  int64_t top_groups = 1;  // experts outside the best so many groups cannot be chosen
  GroupScore group_score = GroupScore::kMax;
};

// For each row: scores s = softmax(logits) or sigmoid(logits), in f32; selection score = s +
// selection_bias + steering.Row(row_steering[r]). The weights come from s alone. Ties go to the
// lower expert. A group's score is taken before steering: a row is steered among the groups it
// would have had, except that an expert forced with +infinity is chosen whatever its group.
struct TopKGateArgs {
  ConstMatrix logits;  // [rows, experts] f32
  GateForm form;
  ConstMatrix selection_bias;  // [1, experts] f32, f16 or bf16, or empty
  // Experts a row chooses, 1 to form.top_k. Empty: top_k for all rows. Host memory.
  absl::Span<const int32_t> row_k;
  // Per-request control: each row of `steering` [n, experts] f32 (host memory) holds -infinity for
  // experts that must not be chosen, +infinity for those that must, else 0. row_steering[r] is the
  // row's, -1 for none; empty: none for all. A row keeps at least row_k experts that are not
  // masked, and has at most row_k forced ones: the caller's contract.
  ConstMatrix steering;
  absl::Span<const int32_t> row_steering;
  // Device memory, [rows, form.top_k] row-major: the chosen experts in rising order and their
  // weights; a row that chooses fewer ends with experts of -1 and weights of 0.
  int32_t* experts = nullptr;
  float* weights = nullptr;
};

// One expert's matrices and the pairs that go through it.
struct ExpertGroup {
  ConstMatrix gate, up;  // [intermediate, hidden] f32, f16 or bf16, read in place
  ConstMatrix down;      // [hidden, intermediate]
  int64_t pair_begin = 0;
  int64_t pair_count = 0;  // a group without pairs is passed over
};

// For each pair p (a row going through one expert): out.Row(out_rows[p]) = weights[p] *
// down(activation(gate(x)) * up(x)), with x = x.Row(x_rows[p]); the weight is applied to the
// finished f32 sum. Pairs are sorted by expert: group g owns [pair_begin, pair_begin + pair_count).
// All groups have the same shapes. The spans are host memory.
struct GroupedFfnArgs {
  ConstMatrix x;  // [rows, hidden] f32
  absl::Span<const ExpertGroup> groups;
  Activation activation = Activation::kSilu;
  absl::Span<const int32_t> x_rows;    // [pairs]
  absl::Span<const int32_t> out_rows;  // [pairs], distinct
  absl::Span<const float> weights;     // [pairs]
  // Scratch, f32, which an implementation may leave alone: inputs [pairs, hidden], gate and up
  // [pairs, intermediate].
  Matrix inputs, gate, up;
  Matrix out;  // f32, cols = hidden
};

// out.Row(r) = contributions.Row(offsets[r]) + ... + contributions.Row(offsets[r + 1] - 1), added
// in that order, starting from zero. A row without contributions becomes zero.
struct CombineRowsArgs {
  ConstMatrix contributions;          // [pairs, hidden] f32
  absl::Span<const int32_t> offsets;  // [rows + 1], rising from 0, host memory
  Matrix out;                         // [rows, hidden] f32
};

// The matrices of one FFN expert, as in ExpertGroup.
struct ExpertMatrices {
  ConstMatrix gate, up;  // [intermediate, hidden] f32, f16 or bf16, read in place
  ConstMatrix down;      // [hidden, intermediate]
};

// out.Row(r) = the sum over the experts e of chosen[r], in rising order, of weight_e *
// FFN_e(x.Row(r)): each contribution as GroupedFfn makes it, added as CombineRows adds. Nothing of
// the choice is known on the host, so that the op can be part of a captured step.
struct MoeFfnArgs {
  ConstMatrix x;                             // [rows, hidden] f32
  absl::Span<const ExpertMatrices> experts;  // all experts of the layer, of one shape
  Activation activation = Activation::kSilu;
  // Device memory, [rows, top_k], as TopKGate leaves them: rising, -1 behind the last.
  const int32_t* chosen = nullptr;
  const float* weights = nullptr;
  int64_t top_k = 0;
  // Scratch, f32, which an implementation may leave alone: contributions and inputs
  // [rows * top_k, hidden], gate and up [rows * top_k, intermediate].
  Matrix contributions, inputs, gate, up;
  Matrix out;  // [rows, hidden] f32; not x
};

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_MOE_H_
