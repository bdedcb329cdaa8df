// SPDX-License-Identifier: Apache-2.0
// Stands in for CUDA's header of this name, which nvcc includes by itself: the language of kernels
// as functions of C++. See ../README.md for what a kernel may use.
#ifndef CCOE_TESTS_KERNELS_CUDA_EMULATION_INCLUDE_CUDA_RUNTIME_H_
#define CCOE_TESTS_KERNELS_CUDA_EMULATION_INCLUDE_CUDA_RUNTIME_H_

#include <cuda_runtime_api.h>
#include <math.h>

#include <bit>
#include <cstdint>
#include <source_location>
#include <type_traits>

#include "tests/kernels/cuda/emulation/block.h"

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
// One block runs at a time. symbols.h finds these variables, so that each block finds them
// poisoned.
#define __shared__ static

// Of the thread that runs.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

template <class T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline uint32_t __float_as_uint(float x) { return std::bit_cast<uint32_t>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __uint_as_float(uint32_t x) { return std::bit_cast<float>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(x); }
inline int __popc(uint32_t x) { return __builtin_popcount(x); }
inline uint32_t __umulhi(uint32_t a, uint32_t b) {
  return static_cast<uint32_t>(uint64_t{a} * b >> 32);
}
inline uint64_t __umul64hi(uint64_t a, uint64_t b) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b >> 64);
}
template <class T>
T __ldg(const T* from) {
  return *from;
}
template <class T>
T __ldcs(const T* from) {
  return *from;
}

// One thread runs at a time, and only at the calls below does it change.
template <class T>
T atomicAdd(T* to, std::type_identity_t<T> value) {
  const T old = *to;
  *to = old + value;
  return old;
}

namespace ccoe::emulation {

using Site = std::source_location;

// What each lane brings to a shuffle, and takes.
template <class T>
struct Shuffle {
  T value;
  int from;  // lane
  T result;

  static void Run(void* const* lanes, uint32_t mask) {
    for (int lane = 0; lane < warpSize; ++lane) {
      if ((mask >> lane & 1) == 0) continue;
      auto* to = static_cast<Shuffle*>(lanes[lane]);
      const auto* from = static_cast<const Shuffle*>(lanes[to->from]);
      to->result = from == nullptr ? Unspecified() : from->value;
    }
  }
  static T Unspecified() {  // of a lane that takes no part
    T value;
    __builtin_memset(&value, 0x7f, sizeof(value));
    return value;
  }
};

template <class T>
T Shuffled(uint32_t mask, T value, int from, const Site& site) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "CUDA shuffles 4 or 8 bytes");
  Shuffle<T> lane{value, from, value};
  CurrentBlock().Collect({&Shuffle<T>::Run, mask, "a shuffle", &site}, &lane);
  return lane.result;
}

struct Ballot {
  bool bit;
  uint32_t result;

  static void Run(void* const* lanes, uint32_t mask) {
    uint32_t result = 0;
    for (int lane = 0; lane < warpSize; ++lane) {
      if ((mask >> lane & 1) != 0 && static_cast<const Ballot*>(lanes[lane])->bit) {
        result |= 1u << lane;
      }
    }
    for (int lane = 0; lane < warpSize; ++lane) {
      if ((mask >> lane & 1) != 0) static_cast<Ballot*>(lanes[lane])->result = result;
    }
  }
};

template <class T>
struct Sum {
  static_assert(std::is_integral_v<T>);
  T value, result;

  static void Run(void* const* lanes, uint32_t mask) {
    T sum = 0;
    for (int lane = 0; lane < warpSize; ++lane) {
      if ((mask >> lane & 1) != 0) sum += static_cast<const Sum*>(lanes[lane])->value;
    }
    for (int lane = 0; lane < warpSize; ++lane) {
      if ((mask >> lane & 1) != 0) static_cast<Sum*>(lanes[lane])->result = sum;
    }
  }
};

inline int LaneOfThread() { return static_cast<int>(CurrentBlock().thread() % warpSize); }

}  // namespace ccoe::emulation

inline void __syncthreads(const std::source_location& site = std::source_location::current()) {
  ccoe::emulation::CurrentBlock().Barrier(0, site);
}
inline int __syncthreads_count(int predicate,
                               const std::source_location& site = std::source_location::current()) {
  return ccoe::emulation::CurrentBlock().Barrier(predicate != 0, site);
}
inline int __syncthreads_or(int predicate,
                            const std::source_location& site = std::source_location::current()) {
  return ccoe::emulation::CurrentBlock().Barrier(predicate != 0, site) > 0;
}

inline void __syncwarp(uint32_t mask = 0xffffffffu,
                       const std::source_location& site = std::source_location::current()) {
  ccoe::emulation::CurrentBlock().Collect({nullptr, mask, "__syncwarp", &site}, nullptr);
}
inline uint32_t __ballot_sync(uint32_t mask, int predicate,
                              const std::source_location& site = std::source_location::current()) {
  ccoe::emulation::Ballot lane{predicate != 0, 0};
  ccoe::emulation::CurrentBlock().Collect(
      {&ccoe::emulation::Ballot::Run, mask, "__ballot_sync", &site}, &lane);
  return lane.result;
}
inline int __any_sync(uint32_t mask, int predicate,
                      const std::source_location& site = std::source_location::current()) {
  return __ballot_sync(mask, predicate, site) != 0;
}
inline int __all_sync(uint32_t mask, int predicate,
                      const std::source_location& site = std::source_location::current()) {
  return __ballot_sync(mask, predicate, site) == mask;
}
template <class T>
T __reduce_add_sync(uint32_t mask, T value,
                    const std::source_location& site = std::source_location::current()) {
  ccoe::emulation::Sum<T> lane{value, value};
  ccoe::emulation::CurrentBlock().Collect(
      {&ccoe::emulation::Sum<T>::Run, mask, "__reduce_add_sync", &site}, &lane);
  return lane.result;
}
template <class T>
T __shfl_sync(uint32_t mask, T value, int lane,
              const std::source_location& site = std::source_location::current()) {
  return ccoe::emulation::Shuffled(mask, value, lane & 31, site);
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int lane_mask,
                  const std::source_location& site = std::source_location::current()) {
  return ccoe::emulation::Shuffled(mask, value, ccoe::emulation::LaneOfThread() ^ lane_mask, site);
}
template <class T>
T __shfl_up_sync(uint32_t mask, T value, unsigned delta,
                 const std::source_location& site = std::source_location::current()) {
  const int lane = ccoe::emulation::LaneOfThread(), from = lane - static_cast<int>(delta);
  return ccoe::emulation::Shuffled(mask, value, from < 0 ? lane : from, site);
}
template <class T>
T __shfl_down_sync(uint32_t mask, T value, unsigned delta,
                   const std::source_location& site = std::source_location::current()) {
  const int lane = ccoe::emulation::LaneOfThread(), from = lane + static_cast<int>(delta);
  return ccoe::emulation::Shuffled(mask, value, from >= warpSize ? lane : from, site);
}

#endif  // CCOE_TESTS_KERNELS_CUDA_EMULATION_INCLUDE_CUDA_RUNTIME_H_
