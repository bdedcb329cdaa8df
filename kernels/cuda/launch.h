// SPDX-License-Identifier: Apache-2.0
// How kernels are put on a stream: the one way, so that a captured step can be told from another by
// what it would launch. Plain C++, for .cu and .cc files.
#ifndef CCOE_KERNELS_CUDA_LAUNCH_H_
#define CCOE_KERNELS_CUDA_LAUNCH_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/cuda/kernel_list.h"
#include "kernels/rounding.h"

namespace ccoe::kernels {

struct LaunchShape {
  int64_t grid_x = 1, grid_y = 1, grid_z = 1;  // blocks
  int block = 128;                             // threads
  size_t shared_bytes = 0;                     // dynamic shared memory
};

class Launcher {
 public:
  virtual ~Launcher() = default;

  // Every kernel takes one struct by value. A grid without blocks is passed over. The kernel is an
  // argument of the template, so that the program knows all that it may ever launch
  // (kernel_list.h).
  template <auto kKernel, class Params>
  void Launch(const LaunchShape& shape, const Params& params) {
    static_assert(std::is_same_v<decltype(kKernel), void (*)(Params)>);
    static_assert(std::is_trivially_copyable_v<Params> && sizeof(Params) <= 4096);
    static_cast<void>(ListedKernel<kKernel>::kListed);
    LaunchRaw(reinterpret_cast<const void*>(kKernel), shape, &params, sizeof(params));
  }

 private:
  virtual void LaunchRaw(const void* kernel, const LaunchShape& shape, const void* params,
                         size_t params_bytes) = 0;
};

// A parameter struct whose padding is zero too: captured steps compare the bytes. Params has no
// initializers of members.
template <class Params>
void ClearParams(Params* params) {
  static_assert(std::is_trivial_v<Params>);
  std::memset(params, 0, sizeof(Params));
}

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_LAUNCH_H_
