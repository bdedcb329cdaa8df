// SPDX-License-Identifier: Apache-2.0
// What the blocks of a decoder layer have in common: finding their tensors, adding what they
// computed to the residual stream, and device memory that is kept from one pass to the next, with
// what those of FFN experts need. The decoder's own memory is in decoder_pass.h.
#ifndef CCOE_RUNTIME_MODEL_BLOCK_H_
#define CCOE_RUNTIME_MODEL_BLOCK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kernels/device.h"
#include "kernels/ops.h"
#include "kernels/view.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"

namespace ccoe::model {

// The tensors of one layer, looked up by the names the family gives its parts.
// Short-lived: views spec and weights. Names are without prefix and ending; errors hold them whole,
// with what was expected and found.
class LayerTensors {
 public:
  LayerTensors(const ModelSpec& spec, int32_t layer, const Weights& weights);

  // NAME.weight, the weight of a norm, NAME.bias.
  absl::StatusOr<kernels::ConstMatrix> Matrix(absl::string_view name, int64_t rows,
                                              int64_t cols) const;
  // As Matrix, in host memory.
  absl::StatusOr<kernels::ConstMatrix> MappedMatrix(absl::string_view name, int64_t rows,
                                                    int64_t cols) const;
  absl::StatusOr<kernels::ConstMatrix> Norm(absl::string_view name, int64_t size) const;
  absl::StatusOr<kernels::ConstMatrix> Bias(absl::string_view name, int64_t size) const;

  const std::string& prefix() const { return prefix_; }
  const Weights& weights() const { return weights_; }

 private:
  const TensorNames& names_;
  const std::string prefix_;
  const Weights& weights_;
};

// The end of a block: its last matrix product, [hidden, in], with a bias or none; `post_norm` [1,
// hidden] is empty where the family has none.
struct BlockOutput {
  kernels::ConstMatrix weight, bias, post_norm;
  float norm_eps = 1e-5f;
};

// hidden += post_norm?(x * weight^T + bias). `scratch` is f32 of hidden's shape, used with a
// post_norm only.
void AddBlockOutput(const BlockOutput& output, kernels::ConstMatrix x, kernels::Matrix scratch,
                    kernels::Ops& ops, kernels::Matrix hidden);

// Room for `elements` values of four bytes in `buffer`, at least doubling it; it never shrinks, and
// loses its content when it grows. RESOURCE_EXHAUSTED from the device.
absl::Status GrowScratch(kernels::Device* device, int64_t elements, kernels::Buffer& buffer);

// The first rows * cols values of `buffer`, f32, contiguous.
inline kernels::Matrix ScratchView(const kernels::Buffer& buffer, int64_t rows, int64_t cols) {
  return kernels::F32Matrix(buffer.f32(), rows, cols);
}

// Columns [begin, begin + count) of an f32 matrix.
inline kernels::Matrix Columns(kernels::Matrix x, int64_t begin, int64_t count) {
  return {static_cast<float*>(x.data) + begin, x.dtype, x.rows, count, x.stride};
}

// Device memory of the MoE blocks of one pass at a time, kept between passes. Not thread-safe.
struct MoeScratch {
  explicit MoeScratch(kernels::Device* device) : device(device) {}

  // Room for passes of up to `rows` rows over any MoE layers of the model: such a pass allocates
  // nothing. Without it memory grows as passes need it. RESOURCE_EXHAUSTED from the device.
  absl::Status Reserve(const ModelSpec& spec, int64_t rows);
  // Over one such layer.
  absl::Status ReserveLayer(int64_t hidden, const MoeSpec& moe, int64_t rows);
  // Of RunFfnExperts alone: `input_values` = pairs * hidden, `inner_values` = pairs * intermediate.
  absl::Status ReserveExperts(int64_t input_values, int64_t inner_values);

  kernels::Device* device;
  kernels::Buffer logits, experts, weights;  // of the gate
  kernels::Buffer normed;                    // RoutedRows::rows
  kernels::Buffer inputs, gate, up;          // of experts
  kernels::Buffer contributions, sum, shared_weight;

 private:
  struct Values {
    int64_t logits = 0, pairs = 0, inner = 0;  // inner: of gate and of up
  };
  static Values ValuesOf(const MoeSpec& moe, int64_t rows);
  absl::Status Grow(int64_t hidden, int64_t rows, const Values& values);
};

// The experts that the rows of a pass chose, kept on the device until the pass is over: nobody has
// to wait for them on the way. One choice a MoE layer: that of the rows that went through it last.
// Not thread-safe.
class MoeChoices {
 public:
  explicit MoeChoices(kernels::Device* device) : device_(device) {}

  // Makes room for `rows` rows at each MoE layer of `layers`. What is kept stays where the layers
  // are those of the call before and the rows no more (a pass that went on with some of its rows);
  // else it is dropped. RESOURCE_EXHAUSTED from the device.
  absl::Status Begin(const ModelSpec& spec, LayerRange layers, int64_t rows);

  // Device memory [rows, top_k] for the choice of rows at MoE layer `layer`, both within what Begin
  // made room for; it is kept from now on.
  int32_t* Keep(int32_t layer, int64_t rows);

  // Nothing is kept.
  bool empty() const { return kept_ == 0; }
  // Where choices lie depends on this, beside the layers.
  int64_t rows_apart() const { return rows_; }

  // As RoutedRows has them: row r chose experts[offsets[r] .. offsets[r + 1]), rising.
  using Visitor = absl::FunctionRef<void(int32_t layer, absl::Span<const int32_t> offsets,
                                         absl::Span<const int32_t> experts)>;
  // Hands over what is kept, layer by layer, and keeps nothing then. The ops that wrote it have
  // been waited for. Errors are the device's.
  absl::Status Take(Visitor visitor);
  void Drop();

 private:
  struct Plane {
    int64_t top_k = 0;  // 0: a dense layer
    int64_t begin = 0;  // the sum of top_k of the layers before
    int64_t rows = 0;   // kept; 0: none
  };
  bool Fits(const ModelSpec& spec, LayerRange layers) const;

  kernels::Device* const device_;
  kernels::Buffer buffer_;
  LayerRange layers_;
  std::vector<Plane> planes_;  // of layers_
  int64_t top_k_sum_ = 0;
  int64_t rows_ = 0;  // between the planes
  int kept_ = 0;      // planes
};

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_BLOCK_H_
