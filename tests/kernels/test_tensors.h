// SPDX-License-Identifier: Apache-2.0
// Test matrices on a device: made from seeded values, read back as values.
#ifndef CCOE_TESTS_KERNELS_TEST_TENSORS_H_
#define CCOE_TESTS_KERNELS_TEST_TENSORS_H_

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "tests/kernels/reference/reference_ops.h"

namespace ccoe::kernels {

// Standard normal values that `dtype` holds exactly, times `scale`.
reference::Dense RandomDense(int64_t rows, int64_t cols, DType dtype, uint32_t seed,
                             double scale = 1.0);

// A matrix in device memory. Rows are `padding` elements further apart than they need to be.
class DeviceMatrix {
 public:
  DeviceMatrix(Ops* ops, const reference::Dense& values, DType dtype, int64_t padding = 0);
  // Uninitialised (zero).
  DeviceMatrix(Ops* ops, int64_t rows, int64_t cols, DType dtype = DType::kF32,
               int64_t padding = 0);

  Matrix view() const { return {buffer_.data(), dtype_, rows_, cols_, cols_ + padding_}; }
  void Upload(const reference::Dense& values);
  // Waits for the ops, then reads all values back.
  reference::Dense Download() const;

 private:
  Ops* ops_;
  DType dtype_;
  int64_t rows_, cols_, padding_;
  Buffer buffer_;
};

// Rows [begin, begin + count).
reference::Dense Rows(const reference::Dense& m, int64_t begin, int64_t count);

// Empty where every |actual - expected| <= tolerance of the same element, else a line that names
// the worst element. `tolerance` may have one element, for all.
std::string WorstDifference(const reference::Dense& actual, const reference::Dense& expected,
                            const reference::Dense& tolerance);

// Empty where both are the same, bit for bit, else a line that names the first element that
// differs.
std::string FirstBitDifference(const reference::Dense& a, const reference::Dense& b);

}  // namespace ccoe::kernels

#endif  // CCOE_TESTS_KERNELS_TEST_TENSORS_H_
