// Device memory of passes beside weights and KV, for memory plans.
#ifndef CCOE_RUNTIME_MODEL_PASS_MEMORY_H_
#define CCOE_RUNTIME_MODEL_PASS_MEMORY_H_

#include <cstdint>

#include "runtime/model/model_spec.h"

namespace ccoe::model {

// What a DecoderScratch grows to over passes of up to `rows` rows, with the rows' hidden states:
// buffers grow by doubling, so up to twice what is used at once.
int64_t PassBytes(const ModelSpec& spec, int64_t rows);

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_PASS_MEMORY_H_
