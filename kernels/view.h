// SPDX-License-Identifier: Apache-2.0
// Borrowed row-major matrices. A view owns nothing: whoever made it keeps the memory alive and says
// on which device.
#ifndef CCOE_KERNELS_VIEW_H_
#define CCOE_KERNELS_VIEW_H_

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"

namespace ccoe::kernels {

// Read-only [rows, cols]; row r starts at element r * stride (stride >= cols, in elements). An
// empty view (data == nullptr) stands for an absent operand where an op allows one. A vector is a
// matrix of one row.
struct ConstMatrix {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;

  bool empty() const { return data == nullptr; }
  const void* Row(int64_t r) const {
    return static_cast<const char*>(data) + r * stride * static_cast<int64_t>(DTypeBytes(dtype));
  }
  // Rows [begin, begin + count).
  ConstMatrix Slice(int64_t begin, int64_t count) const {
    return {Row(begin), dtype, count, cols, stride};
  }
};

// As ConstMatrix, writable.
struct Matrix {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;

  bool empty() const { return data == nullptr; }
  void* Row(int64_t r) const {
    return static_cast<char*>(data) + r * stride * static_cast<int64_t>(DTypeBytes(dtype));
  }
  Matrix Slice(int64_t begin, int64_t count) const {
    return {Row(begin), dtype, count, cols, stride};
  }
  operator ConstMatrix() const {
    return {data, dtype, rows, cols, stride};
  }  // NOLINT: a view widens freely
};

// Contiguous f32 views.
inline Matrix F32Matrix(float* data, int64_t rows, int64_t cols) {
  return {data, DType::kF32, rows, cols, cols};
}
inline ConstMatrix F32Matrix(const float* data, int64_t rows, int64_t cols) {
  return {data, DType::kF32, rows, cols, cols};
}

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_VIEW_H_
