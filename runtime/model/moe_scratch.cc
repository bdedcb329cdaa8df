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

absl::Status MoeScratch::Grow(int64_t hidden, int64_t rows, const Values& values) {
  struct Part {
    kernels::Buffer& buffer;
    int64_t values;
  };
  const Part parts[] = {{logits, values.logits},
                        {experts, values.pairs},
                        {weights, values.pairs},
                        {normed, rows * hidden},
                        {contributions, values.pairs * hidden},
                        {sum, rows * hidden},
                        {shared_weight, rows}};
  for (const Part& part : parts) {
    CCOE_RETURN_IF_ERROR(GrowScratch(device, part.values, part.buffer));
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

}  // namespace ccoe::model
