// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/block.h"

namespace ccoe::model {

LayerTensors::LayerTensors(const ModelSpec& spec, int32_t layer, const Weights& weights)
    : names_(spec.names), prefix_(LayerPrefix(spec.names, layer)), weights_(weights) {}

absl::StatusOr<kernels::ConstMatrix> LayerTensors::Matrix(absl::string_view name, int64_t rows,
                                                          int64_t cols) const {
  return weights_.Matrix(prefix_ + WeightName(name), rows, cols);
}

absl::StatusOr<kernels::ConstMatrix> LayerTensors::MappedMatrix(absl::string_view name,
                                                                int64_t rows, int64_t cols) const {
  return weights_.MappedMatrix(prefix_ + WeightName(name), rows, cols);
}

absl::StatusOr<kernels::ConstMatrix> LayerTensors::Norm(absl::string_view name,
                                                        int64_t size) const {
  return weights_.Vector(prefix_ + NormName(names_, name), size);
}

absl::StatusOr<kernels::ConstMatrix> LayerTensors::Bias(absl::string_view name,
                                                        int64_t size) const {
  return weights_.Vector(prefix_ + BiasName(name), size);
}

void AddBlockOutput(const BlockOutput& output, kernels::ConstMatrix x, kernels::Matrix scratch,
                    kernels::Ops& ops, kernels::Matrix hidden) {
  const bool normed = !output.post_norm.empty();
  const kernels::LinearPart part[] = {
      {output.weight, output.bias, normed ? scratch : hidden, /*accumulate=*/!normed}};
  ops.Linear(x, part);
  if (!normed) return;
  ops.AddRmsNorm(scratch, output.post_norm, output.norm_eps, hidden);
}

}  // namespace ccoe::model
