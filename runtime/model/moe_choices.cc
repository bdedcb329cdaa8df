#include "runtime/model/moe_choices.h"

#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/scratch.h"

namespace ccoe::model {
namespace {

int64_t TopK(const ModelSpec& spec, int32_t layer) {
  const FfnSpec& ffn = spec.layers[static_cast<size_t>(layer)].ffn;
  return ffn.is_moe() ? ffn.moe.gate.top_k : 0;
}

}  // namespace

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
