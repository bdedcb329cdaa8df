// SPDX-License-Identifier: Apache-2.0
// What the blocks of a decoder layer have in common: finding their tensors, and adding what they
// computed to the residual stream.
#ifndef CCOE_RUNTIME_MODEL_BLOCK_H_
#define CCOE_RUNTIME_MODEL_BLOCK_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
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

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_BLOCK_H_
