// SPDX-License-Identifier: Apache-2.0
// Where emulated memory lies: far from what the host has, so that an address tells whose it is.
#ifndef CCOE_TESTS_KERNELS_CUDA_EMULATION_ADDRESS_SPACE_H_
#define CCOE_TESTS_KERNELS_CUDA_EMULATION_ADDRESS_SPACE_H_

#include <cstddef>
#include <cstdint>

#include "tests/kernels/cuda/emulation/block.h"

namespace ccoe::emulation {

constexpr uintptr_t kDeviceBase = 0x200000000000;
constexpr size_t kDeviceRange = size_t{8} << 40;
constexpr uintptr_t kPinnedBase = 0x300000000000;
constexpr size_t kPinnedRange = size_t{8} << 40;

// Ends the process where one of the words of the launch's parameters is an address of host memory,
// which a kernel cannot read.
void CheckNoHostPointers(const KernelLaunch& launch);

}  // namespace ccoe::emulation

#endif  // CCOE_TESTS_KERNELS_CUDA_EMULATION_ADDRESS_SPACE_H_
