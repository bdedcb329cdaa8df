// The largest calls of ops that passes over a model make.
#ifndef CCOE_RUNTIME_MODEL_OP_SHAPES_H_
#define CCOE_RUNTIME_MODEL_OP_SHAPES_H_

#include <cstdint>

#include "kernels/op_shapes.h"
#include "runtime/model/model_spec.h"

namespace ccoe::model {

// All at most.
struct PassLimits {
  int64_t rows = 0;       // of a pass
  int64_t sequences = 0;  // of a pass; those with one row each may be captured
  int64_t head_rows = 0;  // of one call of the LM head; 0: no head
  int64_t tokens = 0;     // that a KV cache holds of one sequence
  int64_t page_tokens = 1;
};

// Of passes over any layers.
kernels::OpShapes ShapesOfPasses(const ModelSpec& spec, const PassLimits& limits);

// Of RunFfnExperts over any MoE layer, for `pairs` (row, expert) pairs.
kernels::OpShapes ShapesOfExperts(const ModelSpec& spec, int64_t pairs);

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_OP_SHAPES_H_
