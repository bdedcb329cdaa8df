// SPDX-License-Identifier: Apache-2.0
// The ops a decoder is made of: one coarse interface over device memory, one implementation a
// device.
//
// Determinism (design contract): each output element is summed in an order that depends only on the
// shapes of the weights and on absolute token positions: never on the number of rows, the other
// rows, the number of threads, or on how a prompt was cut into chunks. So one row alone and the
// same row among many give the same bits.
//
// Rows are f32 unless said otherwise. Shapes are the caller's contract; a wrong shape is a bug and
// aborts in CHECKs. An Ops is one execution stream: calls take effect in order. The CPU runs them
// before returning; a GPU returns at once and Synchronize waits. Not thread-safe, except that
// several CPU Ops may share one ThreadTeam.
#ifndef CCOE_KERNELS_OPS_H_
#define CCOE_KERNELS_OPS_H_

#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kernels/activation.h"
#include "kernels/attention.h"
#include "kernels/device.h"
#include "kernels/linear.h"
#include "kernels/moe.h"
#include "kernels/sample.h"
#include "kernels/view.h"

namespace ccoe::kernels {

class Ops {
 public:
  virtual ~Ops() = default;

  virtual Device& device() = 0;

  // All that the bits of results depend on beside weights, inputs and the cache's dtype: kind of
  // device, instruction set or architecture, version of the kernels, dtype of products, and what
  // else the implementation knows of. Equal strings: equal bits. See numerics_class.h.
  virtual std::string NumericsClass() const = 0;

  // out[i, :] = scale * table[ids[i], :]. table [vocab, hidden] f32, f16 or bf16; 0 <= ids[i] <
  // vocab.
  virtual void EmbedRows(ConstMatrix table, absl::Span<const int32_t> ids, float scale,
                         Matrix out) = 0;

  // out = x / sqrt(mean(x^2) + eps) * weight, over each row. weight [1, cols] f32, f16 or bf16. out
  // may be x.
  virtual void RmsNorm(ConstMatrix x, ConstMatrix weight, float eps, Matrix out) = 0;

  // See LinearPart. All parts have in_features = x.cols.
  virtual void Linear(ConstMatrix x, absl::Span<const LinearPart> parts) = 0;

  // A product for each head. See HeadLinearArgs.
  virtual void HeadLinear(const HeadLinearArgs& args) = 0;

  // The cosines and sines that RopeAndAppendKv turns rows by. See RopeAnglesArgs.
  virtual void RopeAngles(const RopeAnglesArgs& args) = 0;

  // Rotates q and k and writes k and v to the cache. See RopeAndAppendKvArgs.
  virtual void RopeAndAppendKv(const RopeAndAppendKvArgs& args) = 0;

  // Causal attention of each row over its sequence's cache, itself included. See
  // PagedAttentionArgs.
  virtual void PagedAttention(const PagedAttentionArgs& args) = 0;

  // out = activation(gate) * up, element by element. out may be gate or up.
  virtual void GatedActivation(Activation activation, ConstMatrix gate, ConstMatrix up,
                               Matrix out) = 0;

  // sum += x, element by element.
  virtual void AddRows(ConstMatrix x, Matrix sum) = 0;

  // sum += RmsNorm(x, weight, eps) in one pass over the rows: the bits of RmsNorm and then AddRows.
  virtual void AddRmsNorm(ConstMatrix x, ConstMatrix weight, float eps, Matrix sum) = 0;

  // x *= scale, then (soft_cap > 0) x = soft_cap * tanh(x / soft_cap): logit multipliers and caps.
  virtual void ScaleRows(float scale, float soft_cap, Matrix x) = 0;

  // x[r, :] *= sigmoid(gate[r, 0]): the gated shared expert. gate [rows, 1] f32.
  virtual void ScaleRowsBySigmoid(ConstMatrix gate, Matrix x) = 0;

  // x = min(max(x, -limit), limit), element by element. limit > 0.
  virtual void ClampRows(float limit, Matrix x) = 0;

  // Which experts each row goes through, and with which weights. See TopKGateArgs.
  virtual void TopKGate(const TopKGateArgs& args) = 0;

  // The feed-forward blocks of several experts, each over its own rows. See GroupedFfnArgs.
  virtual void GroupedFfn(const GroupedFfnArgs& args) = 0;

  // Sums what the experts of each row gave. See CombineRowsArgs.
  virtual void CombineRows(const CombineRowsArgs& args) = 0;

  // A MoE layer's experts whose choice stays on the device: GroupedFfn and CombineRows without a
  // look of the host's in between, and the same bits. See MoeFfnArgs.
  virtual void MoeFfn(const MoeFfnArgs& args) = 0;

  // Chooses a token for each row of logits. Waits for the device, as Synchronize. See
  // SampleRowsArgs.
  virtual absl::Status SampleRows(const SampleRowsArgs& args, absl::Span<SampledRow> out) = 0;

  // out[i, :] = x[rows[i], :]; converts between f32, f16 and bf16 (round to nearest even) where
  // dtypes differ.
  virtual void GatherRows(ConstMatrix x, absl::Span<const int32_t> rows, Matrix out) = 0;

  // out[rows[i], :] = x[i, :]; converts as GatherRows. The rows are distinct.
  virtual void ScatterRows(ConstMatrix x, absl::Span<const int32_t> rows, Matrix out) = 0;

  // Runs `body`, a piece of a step that makes calls of this Ops and does not wait for them (no
  // Synchronize, no copies of results). A device may record what a key's body calls and replay it,
  // so that a step costs one launch: give the same key to bodies that make the same calls on the
  // same memory, whatever their host arrays (row ids, slots, block tables) hold; another call under
  // the key is seen and recorded anew, at a price. `body` may be called twice, so it must have no
  // other effect. Keys are few: buckets of batch sizes, not single steps.
  virtual void RunCaptured(uint64_t key, absl::FunctionRef<void()> body) { body(); }

  // Waits for all calls so far; the first error since the last Synchronize.
  virtual absl::Status Synchronize() = 0;
};

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_OPS_H_
