// Arguments of the linear op.
#ifndef CCOE_KERNELS_LINEAR_H_
#define CCOE_KERNELS_LINEAR_H_

#include "kernels/view.h"

namespace ccoe::kernels {

// out = x * weight^T + bias, for one weight matrix. Several parts over the same x run as one loop
// over the cores (q, k, v; gate, up).
struct LinearPart {
  ConstMatrix weight;  // [out_features, in_features] f32, f16 or bf16, row-major, read in place
  ConstMatrix bias;    // [1, out_features] f32, f16 or bf16, or empty
  Matrix out;          // [rows, out_features] f32
  bool accumulate = false;  // out += instead of out = (the residual connection)
};

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_LINEAR_H_
