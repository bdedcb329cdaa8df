// SPDX-License-Identifier: Apache-2.0
// What C++ does not say about a GPU: instructions by their PTX, and dynamic shared memory. The C++
// compiler, in nvcc's place, finds the same functions in the emulation of
// tests/kernels/cuda/emulation.
#ifndef CCOE_KERNELS_CUDA_PTX_CUH_
#define CCOE_KERNELS_CUDA_PTX_CUH_

#ifndef __CUDACC__
#include <emulated_ptx.h>
#else

#include <cstdint>

// The block's dynamic shared memory as T* (once a kernel).
#define CCOE_DYNAMIC_SHARED(T, name) extern __shared__ T name[]

namespace ccoe::kernels {

// c += a * b over 16 features (mma.m16n8k16): a [16, 16], b [16, 8], c [16, 8]. Lane l of a warp
// has of a: rows l / 4 and l / 4 + 8 at features 2 (l % 4) and the next (a0, a1), and the same rows
// at features 8 on (a2, a3); of b: column l / 4 at the same features (b0, and 8 on b1); of c: row l
// / 4 at columns 2 (l % 4) and the next, then row l / 4 + 8.
__device__ __forceinline__ void MmaBf16(uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                        uint32_t b0, uint32_t b1, float (&c)[4]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void MmaF16(uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                       uint32_t b0, uint32_t b1, float (&c)[4]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ __forceinline__ uint32_t SharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// 16 bytes to shared memory, or zeros; both addresses are multiples of 16. They are there after the
// group that they are committed in was waited for (and a barrier, for other threads).
__device__ __forceinline__ void CopyAsync(uint4* to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(SharedAddress(to)),
               "l"(from), "r"(valid ? 16 : 0));
}
__device__ __forceinline__ void CommitCopies() { asm volatile("cp.async.commit_group;\n"); }
// All groups of this thread but the kLeft youngest have landed.
template <int kLeft>
__device__ __forceinline__ void WaitForCopies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kLeft) : "memory");
}

// Four transposed 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix
// l / 8 and gets of each matrix column l / 4 at rows 2 (l % 4) and the next.
__device__ __forceinline__ void LoadTransposed(const uint4* row, uint32_t (&to)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(SharedAddress(row))
               : "memory");
}

// 16 bytes that no one else will read and no kernel in flight writes.
__device__ __forceinline__ uint4 LoadStreaming(const void* from) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(from));
  return value;
}

}  // namespace ccoe::kernels

#endif  // __CUDACC__

#endif  // CCOE_KERNELS_CUDA_PTX_CUH_
