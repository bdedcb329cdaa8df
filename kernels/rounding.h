// SPDX-License-Identifier: Apache-2.0
// Sizes in whole pieces, for hosts and devices.
#ifndef CCOE_KERNELS_ROUNDING_H_
#define CCOE_KERNELS_ROUNDING_H_

#include <cstdint>

namespace ccoe::kernels {

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t RoundUp(int64_t a, int64_t b) { return CeilDiv(a, b) * b; }

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_ROUNDING_H_
