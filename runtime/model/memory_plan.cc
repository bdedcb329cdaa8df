// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/memory_plan.h"

#include <algorithm>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "runtime/base/check.h"

namespace ccoe::model {
namespace {

constexpr int64_t kAlignment = 512;  // cudaMalloc's

std::string Gigabytes(int64_t bytes) {
  return absl::StrFormat("%.2f GB", static_cast<double>(bytes) / 1e9);
}

}  // namespace

absl::StatusOr<kernels::Buffer> CountingDevice::Allocate(size_t size_bytes) {
  if (size_bytes == 0) return kernels::Buffer();
  const int64_t rounded = (static_cast<int64_t>(size_bytes) + kAlignment - 1) & -kAlignment;
  // An address that is never followed.
  const int64_t address = kAlignment + counted_.fetch_add(rounded);
  return kernels::Buffer(this, reinterpret_cast<void*>(address), size_bytes);
}

absl::Status CountingDevice::CopyFromHost(const void*, void*, size_t) {
  return absl::FailedPreconditionError("a device that only counts takes no copies");
}

absl::Status CountingDevice::CopyToHost(const void*, void*, size_t) {
  return absl::FailedPreconditionError("a device that only counts takes no copies");
}

int64_t MemoryPlan::total_bytes() const {
  int64_t total = 0;
  for (const auto& [what, bytes] : parts_) total += bytes;
  return total;
}

std::string MemoryPlan::ToString() const {
  return absl::StrCat(absl::StrJoin(parts_, " + ",
                                    [](std::string* out, const auto& part) {
                                      absl::StrAppend(out, part.first, " ", Gigabytes(part.second));
                                    }),
                      " = ", Gigabytes(total_bytes()));
}

absl::Status MemoryPlan::CheckFits(kernels::Device& device) const {
  const int64_t free = device.FreeBytes();
  if (total_bytes() <= free) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(device.Name(), ": ", ToString(),
                                                   ": expected at most the ", Gigabytes(free),
                                                   " that are free"));
}

namespace {

using kernels::ConstMatrix;
using kernels::Matrix;

class DryRunOps final : public kernels::Ops {
 public:
  explicit DryRunOps(CountingDevice* device) : device_(device) {}

  kernels::Device& device() override { return *device_; }
  std::string NumericsClass() const override { return "counting"; }
  absl::Status Synchronize() override { return absl::OkStatus(); }

  void EmbedRows(ConstMatrix, absl::Span<const int32_t>, float, Matrix) override { Refuse(); }
  void RmsNorm(ConstMatrix, ConstMatrix, float, Matrix) override { Refuse(); }
  void Linear(ConstMatrix, absl::Span<const kernels::LinearPart>) override { Refuse(); }
  void HeadLinear(const kernels::HeadLinearArgs&) override { Refuse(); }
  void RopeAngles(const kernels::RopeAnglesArgs&) override { Refuse(); }
  void RopeAndAppendKv(const kernels::RopeAndAppendKvArgs&) override { Refuse(); }
  void PagedAttention(const kernels::PagedAttentionArgs&) override { Refuse(); }
  void GatedActivation(kernels::Activation, ConstMatrix, ConstMatrix, Matrix) override { Refuse(); }
  void AddRows(ConstMatrix, Matrix) override { Refuse(); }
  void AddRmsNorm(ConstMatrix, ConstMatrix, float, Matrix) override { Refuse(); }
  void ScaleRows(float, float, Matrix) override { Refuse(); }
  void ScaleRowsBySigmoid(ConstMatrix, Matrix) override { Refuse(); }
  void ClampRows(float, Matrix) override { Refuse(); }
  void TopKGate(const kernels::TopKGateArgs&) override { Refuse(); }
  void GroupedFfn(const kernels::GroupedFfnArgs&) override { Refuse(); }
  void CombineRows(const kernels::CombineRowsArgs&) override { Refuse(); }
  void MoeFfn(const kernels::MoeFfnArgs&) override { Refuse(); }
  absl::Status SampleRows(const kernels::SampleRowsArgs&,
                          absl::Span<kernels::SampledRow>) override {
    Refuse();
    return absl::OkStatus();
  }
  void GatherRows(ConstMatrix, absl::Span<const int32_t>, Matrix) override { Refuse(); }
  void ScatterRows(ConstMatrix, absl::Span<const int32_t>, Matrix) override { Refuse(); }

 private:
  static void Refuse() { CCOE_CHECK(false); }  // there is no memory to work on

  CountingDevice* const device_;
};

}  // namespace

std::unique_ptr<kernels::Ops> MakeDryRunOps(CountingDevice* device) {
  return std::make_unique<DryRunOps>(device);
}

namespace {

using kernels::OpShapes;

void AddAttention(const ModelSpec& spec, const AttentionSpec& attention, const PassLimits& limits,
                  OpShapes& shapes) {
  const int64_t hidden = spec.hidden_size, rows = limits.rows;
  const int64_t q_size = attention.heads * attention.head_dim;
  const int64_t kv_size = attention.kv_heads * attention.head_dim;
  if (attention.is_latent()) {
    const LatentSpec& latent = attention.latent;
    const int64_t query_in = latent.q_rank > 0 ? latent.q_rank : hidden;
    shapes.products.push_back({rows, hidden, std::max(kv_size, latent.q_rank)});
    shapes.products.push_back({rows, query_in, q_size + attention.heads * latent.nope_dim});
    shapes.head_products.push_back({rows, attention.heads, latent.nope_dim, latent.kv_rank});
    shapes.head_products.push_back({rows, attention.heads, latent.kv_rank, latent.value_dim});
    shapes.products.push_back({rows, attention.heads * latent.value_dim, hidden});
  } else {
    shapes.products.push_back({rows, hidden, q_size + 2 * kv_size});
    shapes.products.push_back({rows, q_size, hidden});
  }
  OpShapes::Attention& paged = shapes.attentions.emplace_back();
  paged.rows = rows;
  paged.sequences = std::min(limits.sequences, rows);
  paged.tokens = std::min(limits.tokens, spec.max_positions);
  paged.page_tokens = limits.page_tokens;
  paged.heads = attention.heads;
  paged.kv_heads = attention.kv_heads;
  paged.head_dim = attention.head_dim;
}

void AddGatedFfn(int64_t rows, int64_t hidden, int64_t intermediate, OpShapes& shapes) {
  shapes.products.push_back({rows, hidden, 2 * intermediate});
  shapes.products.push_back({rows, intermediate, hidden});
}

void AddExperts(const ModelSpec& spec, const MoeSpec& moe, int64_t rows, int64_t pairs,
                OpShapes& shapes) {
  OpShapes::Experts& experts = shapes.experts.emplace_back();
  experts.rows = rows;
  experts.pairs = pairs;
  experts.experts = moe.experts;
  experts.hidden = spec.hidden_size;
  experts.intermediate = moe.intermediate;
}

void AddFfn(const ModelSpec& spec, const FfnSpec& ffn, int64_t rows, OpShapes& shapes) {
  if (!ffn.is_moe()) return AddGatedFfn(rows, spec.hidden_size, ffn.intermediate, shapes);
  shapes.products.push_back({rows, spec.hidden_size, ffn.moe.experts});
  if (ffn.moe.shared_intermediate > 0) {
    AddGatedFfn(rows, spec.hidden_size, ffn.moe.shared_intermediate, shapes);
  }
  AddExperts(spec, ffn.moe, rows, rows * ffn.moe.gate.top_k, shapes);
}

}  // namespace

OpShapes ShapesOfPasses(const ModelSpec& spec, const PassLimits& limits) {
  OpShapes shapes;
  for (const LayerSpec& layer : spec.layers) {
    AddAttention(spec, layer.attention, limits, shapes);
    AddFfn(spec, layer.ffn, limits.rows, shapes);
  }
  if (limits.head_rows > 0) {
    shapes.products.push_back({limits.head_rows, spec.hidden_size, spec.vocab_size});
    shapes.sampled_rows = limits.head_rows;
    shapes.vocabulary = spec.vocab_size;
  }
  shapes.captured_steps = std::min(limits.sequences, limits.rows);
  return shapes;
}

OpShapes ShapesOfExperts(const ModelSpec& spec, int64_t pairs) {
  OpShapes shapes;
  for (const LayerSpec& layer : spec.layers) {
    if (layer.ffn.is_moe()) AddExperts(spec, layer.ffn.moe, pairs, pairs, shapes);
  }
  return shapes;
}

}  // namespace ccoe::model
