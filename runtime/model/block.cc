// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/block.h"

#include <algorithm>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"

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

namespace {

int64_t TopK(const ModelSpec& spec, int32_t layer) {
  const FfnSpec& ffn = spec.layers[static_cast<size_t>(layer)].ffn;
  return ffn.is_moe() ? ffn.moe.gate.top_k : 0;
}

}  // namespace

absl::Status GrowScratch(kernels::Device* device, int64_t elements, kernels::Buffer& buffer) {
  const size_t needed = static_cast<size_t>(elements) * sizeof(float);
  if (buffer.size_bytes() >= needed) return absl::OkStatus();
  const size_t size = std::max(needed, 2 * buffer.size_bytes());
  buffer = kernels::Buffer();
  auto grown = device->Allocate(size);
  if (!grown.ok()) return Annotate(grown.status(), "decoder scratch");
  buffer = *std::move(grown);
  return absl::OkStatus();
}

absl::Status MoeScratch::ReserveExperts(int64_t input_values, int64_t inner_values) {
  CCOE_RETURN_IF_ERROR(GrowScratch(device, input_values, inputs));
  CCOE_RETURN_IF_ERROR(GrowScratch(device, inner_values, gate));
  return GrowScratch(device, inner_values, up);
}

absl::Status MoeScratch::Grow(int64_t hidden, int64_t rows, const Values& values) {
  const std::pair<kernels::Buffer&, int64_t> parts[] = {{logits, values.logits},
                                                        {experts, values.pairs},
                                                        {weights, values.pairs},
                                                        {normed, rows * hidden},
                                                        {contributions, values.pairs * hidden},
                                                        {sum, rows * hidden},
                                                        {shared_weight, rows}};
  for (const auto& [buffer, elements] : parts) {
    CCOE_RETURN_IF_ERROR(GrowScratch(device, elements, buffer));
  }
  return ReserveExperts(values.pairs * hidden, values.inner);
}

absl::Status MoeScratch::Reserve(const ModelSpec& spec, int64_t rows) {
  Values most;
  for (const LayerSpec& layer : spec.layers) {
    if (!layer.ffn.is_moe()) continue;
    const Values values = ValuesOf(layer.ffn.moe, rows);
    most.logits = std::max(most.logits, values.logits);
    most.pairs = std::max(most.pairs, values.pairs);
    most.inner = std::max(most.inner, values.inner);
  }
  return most.pairs == 0 ? absl::OkStatus() : Grow(spec.hidden_size, rows, most);
}

absl::Status MoeScratch::ReserveLayer(int64_t hidden, const MoeSpec& moe, int64_t rows) {
  return Grow(hidden, rows, ValuesOf(moe, rows));
}

MoeScratch::Values MoeScratch::ValuesOf(const MoeSpec& moe, int64_t rows) {
  const int64_t pairs = rows * moe.gate.top_k;
  return {rows * moe.experts, pairs,
          std::max(pairs * moe.intermediate, rows * moe.shared_intermediate)};
}

bool MoeChoices::Fits(const ModelSpec& spec, LayerRange layers) const {
  if (!(layers == layers_)) return false;
  for (size_t i = 0; i < planes_.size(); ++i) {
    if (planes_[i].top_k != TopK(spec, layers.first + static_cast<int32_t>(i))) return false;
  }
  return true;
}

absl::Status MoeChoices::Begin(const ModelSpec& spec, LayerRange layers, int64_t rows) {
  const bool fits = Fits(spec, layers);
  if (fits && (rows == rows_ || (!empty() && rows < rows_))) return absl::OkStatus();
  Drop();
  if (!fits) {
    layers_ = layers;
    planes_.clear();
    top_k_sum_ = 0;
    for (int32_t layer = layers.first; layer < layers.last; ++layer) {
      Plane& plane = planes_.emplace_back();
      plane.top_k = TopK(spec, layer);
      plane.begin = top_k_sum_;
      top_k_sum_ += plane.top_k;
    }
  }
  rows_ = rows;
  return GrowScratch(device_, rows * top_k_sum_, buffer_);
}

int32_t* MoeChoices::Keep(int32_t layer, int64_t rows) {
  CCOE_CHECK(layer >= layers_.first && layer < layers_.last && rows > 0 && rows <= rows_);
  Plane& plane = planes_[static_cast<size_t>(layer - layers_.first)];
  CCOE_CHECK(plane.top_k > 0);
  if (plane.rows == 0) ++kept_;
  plane.rows = rows;
  return static_cast<int32_t*>(buffer_.data()) + plane.begin * rows_;
}

absl::Status MoeChoices::Take(Visitor visitor) {
  if (empty()) return absl::OkStatus();
  std::vector<int32_t> all(static_cast<size_t>(rows_ * top_k_sum_));
  const absl::Status copied =
      device_->CopyToHost(buffer_.data(), all.data(), all.size() * sizeof(int32_t));
  if (!copied.ok()) {
    Drop();
    return Annotate(copied, "chosen experts");
  }
  std::vector<int32_t> offsets, experts;
  for (size_t i = 0; i < planes_.size(); ++i) {
    const Plane& plane = planes_[i];
    if (plane.rows == 0) continue;
    offsets.assign(1, 0);
    experts.clear();
    const int32_t* chosen = all.data() + plane.begin * rows_;
    for (int64_t row = 0; row < plane.rows; ++row) {
      for (int64_t slot = 0; slot < plane.top_k; ++slot, ++chosen) {
        if (*chosen >= 0) experts.push_back(*chosen);
      }
      offsets.push_back(static_cast<int32_t>(experts.size()));
    }
    visitor(layers_.first + static_cast<int32_t>(i), offsets, experts);
  }
  Drop();
  return absl::OkStatus();
}

void MoeChoices::Drop() {
  for (Plane& plane : planes_) plane.rows = 0;
  kept_ = 0;
}

}  // namespace ccoe::model
