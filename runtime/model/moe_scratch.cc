#include <algorithm>

#include "runtime/base/status_macros.h"
#include "runtime/model/moe.h"
#include "runtime/model/scratch.h"

namespace ccoe::model {

absl::Status MoeScratch::ReserveExperts(int64_t input_values, int64_t inner_values) {
  CCOE_RETURN_IF_ERROR(GrowScratch(device, input_values, inputs));
  CCOE_RETURN_IF_ERROR(GrowScratch(device, inner_values, gate));
  return GrowScratch(device, inner_values, up);
}

absl::Status MoeScratch::Reserve(const ModelSpec& spec, int64_t rows) {
  const int64_t hidden = spec.hidden_size;
  int64_t most_experts = 0, most_pairs = 0, most_inner = 0;  // inner: values of gate and of up
  for (const LayerSpec& layer : spec.layers) {
    if (!layer.ffn.is_moe()) continue;
    const MoeSpec& moe = layer.ffn.moe;
    const int64_t pairs = rows * moe.gate.top_k;
    most_experts = std::max(most_experts, moe.experts);
    most_pairs = std::max(most_pairs, pairs);
    most_inner = std::max({most_inner, pairs * moe.intermediate, rows * moe.shared_intermediate});
  }
  if (most_pairs == 0) return absl::OkStatus();
  struct Part {
    kernels::Buffer& buffer;
    int64_t values;
  };
  const Part parts[] = {{logits, rows * most_experts},
                        {experts, most_pairs},
                        {weights, most_pairs},
                        {normed, rows * hidden},
                        {contributions, most_pairs * hidden},
                        {sum, rows * hidden},
                        {shared_weight, rows}};
  for (const Part& part : parts) {
    CCOE_RETURN_IF_ERROR(GrowScratch(device, part.values, part.buffer));
  }
  return ReserveExperts(most_pairs * hidden, most_inner);
}

}  // namespace ccoe::model
