#include "runtime/model/pass_memory.h"

#include "runtime/model/decoder.h"
#include "runtime/model/memory_plan.h"
#include "runtime/model/moe.h"
#include "runtime/model/moe_choices.h"

namespace ccoe::model {

int64_t PassBytes(const ModelSpec& spec, int64_t rows) {
  CountingDevice counting;
  {
    DecoderScratch scratch(&counting);
    MoeScratch moe(&counting);
    MoeChoices choices(&counting);
    scratch.Reserve(spec, rows).IgnoreError();  // counting refuses nothing
    moe.Reserve(spec, rows).IgnoreError();
    choices.Begin(spec, {0, spec.layer_count()}, rows).IgnoreError();
  }
  const int64_t hidden = rows * spec.hidden_size * static_cast<int64_t>(sizeof(float));
  return 2 * (counting.counted_bytes() + hidden);
}

}  // namespace ccoe::model
