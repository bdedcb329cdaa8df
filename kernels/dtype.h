// SPDX-License-Identifier: Apache-2.0
// Element types of tensors in memory, in files and on the wire.
#ifndef CCOE_KERNELS_DTYPE_H_
#define CCOE_KERNELS_DTYPE_H_

#include <cstddef>
#include <cstdint>

namespace ccoe::kernels {

enum class DType : uint8_t { kF32, kF16, kBF16, kI32, kI64, kU8 };

constexpr size_t DTypeBytes(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kF16:
    case DType::kBF16:
      return 2;
    case DType::kI64:
      return 8;
    case DType::kU8:
      return 1;
  }
  return 0;
}

constexpr bool IsFloat(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

// "f32", "f16", "bf16", "i32", "i64", "u8".
constexpr const char* DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kF16:
      return "f16";
    case DType::kBF16:
      return "bf16";
    case DType::kI32:
      return "i32";
    case DType::kI64:
      return "i64";
    case DType::kU8:
      return "u8";
  }
  return "?";
}

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_DTYPE_H_
