// SPDX-License-Identifier: Apache-2.0
// The instructions of kernels/cuda/ptx.cuh, which says what they do.
#ifndef CCOE_TESTS_KERNELS_CUDA_EMULATION_INCLUDE_EMULATED_PTX_H_
#define CCOE_TESTS_KERNELS_CUDA_EMULATION_INCLUDE_EMULATED_PTX_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "tests/kernels/cuda/emulation/tensor_core.h"

#define CCOE_DYNAMIC_SHARED(T, name) \
  T* const name = reinterpret_cast<T*>(::ccoe::emulation::CurrentBlock().shared())

namespace ccoe::kernels {

inline void MmaBf16(uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1,
                    float (&c)[4],
                    const std::source_location& site = std::source_location::current()) {
  emulation::MmaLane lane{{a0, a1, a2, a3}, {b0, b1}, c};
  emulation::CurrentBlock().Collect({&emulation::MultiplyBf16, 0xffffffffu, "mma.sync", &site},
                                    &lane);
}
inline void MmaF16(uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1,
                   float (&c)[4],
                   const std::source_location& site = std::source_location::current()) {
  emulation::MmaLane lane{{a0, a1, a2, a3}, {b0, b1}, c};
  emulation::CurrentBlock().Collect({&emulation::MultiplyF16, 0xffffffffu, "mma.sync", &site},
                                    &lane);
}

inline void CopyAsync(uint4* to, const void* from, bool valid) {
  emulation::CurrentBlock().CopyLater(to, from, valid);
}
inline void CommitCopies() { emulation::CurrentBlock().CommitCopies(); }
template <int kLeft>
void WaitForCopies() {
  emulation::CurrentBlock().WaitForCopies(kLeft);
}

inline void LoadTransposed(const uint4* row, uint32_t (&to)[4],
                           const std::source_location& site = std::source_location::current()) {
  emulation::MatrixLane lane{row, to};
  emulation::CurrentBlock().Collect(
      {&emulation::LoadMatricesTransposed, 0xffffffffu, "ldmatrix", &site}, &lane);
}

inline uint4 LoadStreaming(const void* from) { return *static_cast<const uint4*>(from); }

}  // namespace ccoe::kernels

#endif  // CCOE_TESTS_KERNELS_CUDA_EMULATION_INCLUDE_EMULATED_PTX_H_
