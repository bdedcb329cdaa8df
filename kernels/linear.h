// SPDX-License-Identifier: Apache-2.0
// Arguments of the matrix products: one matrix, or one a head.
#ifndef CCOE_KERNELS_LINEAR_H_
#define CCOE_KERNELS_LINEAR_H_

#include <cstdint>

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

// For each head h: out_h = x_h * weight_h^T. Head 0's views are given, the next head's lie a step
// further. An element has the bits that Linear of x_h and weight_h alone would give it.
struct HeadLinearArgs {
  int64_t heads = 0;
  ConstMatrix x;            // [rows, in] f32
  int64_t x_step = 0;       // columns; 0: all heads multiply the same x
  ConstMatrix weight;       // [out, in] f32, f16 or bf16, row-major, read in place
  int64_t weight_step = 0;  // rows; at least out
  Matrix out;               // [rows, out] f32; overlaps neither x nor the weights
  int64_t out_step = 0;     // columns; at least out
};

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_LINEAR_H_
