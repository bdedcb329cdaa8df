// SPDX-License-Identifier: Apache-2.0
// Calls a kernel of which nothing but the address and the bytes of its parameter are known.
#ifndef CCOE_TESTS_KERNELS_CUDA_EMULATION_INVOKE_H_
#define CCOE_TESTS_KERNELS_CUDA_EMULATION_INVOKE_H_

#include <cstddef>
#include <cstring>
#include <vector>

namespace ccoe::emulation {

// The x86-64 and the AArch64 calling conventions pass a trivial struct of more than 16 bytes as a
// copy in memory: the callee reads as much of it as its own type has.
constexpr size_t kLeastParamsBytes = 17;

template <size_t kBytes>
struct Parameter {
  alignas(16) char bytes[kBytes];
};

template <size_t kBytes = 64>
void Invoke(const void* kernel, const std::vector<char>& params) {
  if constexpr (kBytes < 4096) {
    if (params.size() > kBytes) return Invoke<2 * kBytes>(kernel, params);
  }
  Parameter<kBytes> parameter;
  std::memcpy(parameter.bytes, params.data(), params.size());
  reinterpret_cast<void (*)(Parameter<kBytes>)>(const_cast<void*>(kernel))(parameter);
}

}  // namespace ccoe::emulation

#endif  // CCOE_TESTS_KERNELS_CUDA_EMULATION_INVOKE_H_
