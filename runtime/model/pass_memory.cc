#include "runtime/model/pass_memory.h"

#include <algorithm>

#include "runtime/model/decoder.h"
#include "runtime/model/memory_plan.h"

namespace ccoe::model {

int64_t PassBytes(const ModelSpec& spec, int64_t rows) {
  CountingDevice counting;
  {
    DecoderScratch scratch(&counting);
    scratch.Reserve(spec, rows).IgnoreError();  // counting refuses nothing
  }
  int64_t values = rows * spec.hidden_size;  // hidden states
  int64_t moe_values = 0;
  for (const LayerSpec& layer : spec.layers) {
    if (!layer.ffn.is_moe()) continue;
    const MoeSpec& moe = layer.ffn.moe;
    const int64_t pairs = rows * moe.gate.top_k;
    const int64_t width = std::max(pairs * moe.intermediate, rows * moe.shared_intermediate);
    // See MoeScratch: gate; the experts' input; of a pair its input, gate, up and contribution;
    // sum.
    moe_values = std::max(moe_values, rows * moe.experts + 2 * pairs + rows * spec.hidden_size +
                                          2 * pairs * spec.hidden_size + 2 * width +
                                          rows * (spec.hidden_size + 1));
  }
  values += moe_values;
  return 2 * (counting.counted_bytes() + values * static_cast<int64_t>(sizeof(float)));
}

}  // namespace ccoe::model
