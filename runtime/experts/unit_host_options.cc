#include "runtime/experts/unit_host_options.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/model/memory_plan.h"

namespace ccoe::experts {

kernels::OpShapes ShapesOf(const model::ModelSpec& spec, const UnitHostOptions& options) {
  kernels::OpShapes shapes;
  if (options.layer_experts) {
    model::PassLimits limits;
    limits.rows = limits.sequences = options.max_batch_rows;
    limits.tokens = options.kv_tokens;
    limits.page_tokens = options.page_tokens;
    shapes = model::ShapesOfPasses(spec, limits);
  }
  if (options.ffn_experts) {
    const kernels::OpShapes ffn = model::ShapesOfExperts(spec, options.max_batch_pairs);
    shapes.experts.insert(shapes.experts.end(), ffn.experts.begin(), ffn.experts.end());
  }
  return shapes;
}

PassMemory::Limits PassLimitsOf(const UnitHostOptions& options) {
  return {options.layer_experts ? options.max_batch_rows : 0,
          options.ffn_experts ? options.max_batch_pairs : 0};
}

model::KvStorageOptions KvOptionsOf(const UnitHostOptions& options, model::LayerRange layers) {
  const int64_t pages = (options.kv_tokens + options.page_tokens - 1) / options.page_tokens;
  return {layers, pages, options.page_tokens, options.kv_dtype};
}

UnitQueue::Options QueueOptionsOf(const UnitHostOptions& options) {
  return {options.max_batch_rows, options.max_batch_pairs, options.max_waiting_swaps,
          options.max_waiting_bytes};
}

absl::Status Check(const UnitHostOptions& options) {
  const std::pair<const char*, int64_t> counts[] = {
      {"kv_tokens", options.kv_tokens},
      {"page_tokens", options.page_tokens},
      {"max_batch_rows", options.max_batch_rows},
      {"max_batch_pairs", options.max_batch_pairs},
      {"max_waiting_swaps", options.max_waiting_swaps},
      {"max_waiting_bytes", options.max_waiting_bytes}};
  for (const auto& [name, count] : counts) {
    if (count < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("unit host: ", name, ": expected 1 or more, found ", count));
    }
  }
  if (options.layer_experts || options.ffn_experts) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "unit host: expected layer experts or FFN experts, found neither");
}

}  // namespace ccoe::experts
