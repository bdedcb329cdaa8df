// SPDX-License-Identifier: Apache-2.0
// Matrix instructions of a warp, by the layouts of the PTX ISA ("Matrix Fragments for
// mma.m16n8k16", "ldmatrix"). Each gets what 32 lanes bring (block.h).
#ifndef CCOE_TESTS_KERNELS_CUDA_EMULATION_TENSOR_CORE_H_
#define CCOE_TESTS_KERNELS_CUDA_EMULATION_TENSOR_CORE_H_

#include <cstdint>

namespace ccoe::emulation {

struct MmaLane {
  uint32_t a[4], b[2];
  float* c;  // four, read and written
};

// c += a * b with c [16, 8] f32, a [16, 16] and b [16, 8] of 16-bit floats. Products are exact;
// they are added to c one after another in f32 (a GPU adds in an order of its own).
void MultiplyBf16(void* const* lanes, uint32_t mask);
void MultiplyF16(void* const* lanes, uint32_t mask);

struct MatrixLane {
  const void* row;  // eight 16-bit elements
  uint32_t* to;     // four
};

// ldmatrix.x4.trans. A row's address that is no multiple of 16 ends the process.
void LoadMatricesTransposed(void* const* lanes, uint32_t mask);

}  // namespace ccoe::emulation

#endif  // CCOE_TESTS_KERNELS_CUDA_EMULATION_TENSOR_CORE_H_
