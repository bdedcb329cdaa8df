// SPDX-License-Identifier: Apache-2.0
// What memory holds that nobody has written.
#ifndef CCOE_TESTS_KERNELS_CUDA_EMULATION_POISON_H_
#define CCOE_TESTS_KERNELS_CUDA_EMULATION_POISON_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ccoe::emulation {

// The bytes ff 7f over and over: not a number as f32, f16 and bf16, far out of any range as an
// integer of 32 or 64 bits, not an address.
inline void Poison(void* data, size_t bytes) {
  auto* to = static_cast<uint8_t*>(data);
  auto* const end = to + bytes;
  if ((reinterpret_cast<uintptr_t>(to) & 1) != 0 && to < end) *to++ = 0x7f;
  for (; to + 2 <= end; to += 2) std::memcpy(to, "\xff\x7f", 2);
  if (to < end) *to = 0xff;
}

inline bool IsPoisoned(const void* data, size_t bytes) {
  const auto* from = static_cast<const uint8_t*>(data);
  for (size_t i = 0; i < bytes; ++i) {
    if (from[i] != ((reinterpret_cast<uintptr_t>(from + i) & 1) == 0 ? 0xff : 0x7f)) return false;
  }
  return true;
}

}  // namespace ccoe::emulation

#endif  // CCOE_TESTS_KERNELS_CUDA_EMULATION_POISON_H_
