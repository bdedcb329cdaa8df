// SPDX-License-Identifier: Apache-2.0
// Matrices as kernel parameters: trivial structs (launch.h compares them byte by byte).
#ifndef CCOE_KERNELS_CUDA_PARAMS_H_
#define CCOE_KERNELS_CUDA_PARAMS_H_

#include <cstdint>

#include "kernels/view.h"

namespace ccoe::kernels {

// A Matrix or ConstMatrix: [rows, cols], `stride` elements apart.
struct View {
  void* data;
  int64_t rows, cols, stride;
  DType dtype;
};

inline void SetView(const ConstMatrix& m, View* view) {
  view->data = const_cast<void*>(m.data);
  view->rows = m.rows;
  view->cols = m.cols;
  view->stride = m.stride;
  view->dtype = m.dtype;
}

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_PARAMS_H_
