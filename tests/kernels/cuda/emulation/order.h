// SPDX-License-Identifier: Apache-2.0
// The order in which the emulated device runs what may run in any order.
#ifndef CCOE_TESTS_KERNELS_CUDA_EMULATION_ORDER_H_
#define CCOE_TESTS_KERNELS_CUDA_EMULATION_ORDER_H_

#include <cstdint>

namespace ccoe::emulation {

enum class OrderKind : uint8_t {
  kForward,   // blocks, warps and lanes by rising index, each warp as far as it gets
  kBackward,  // by falling index
  kRandom,    // blocks and threads shuffled anew each round
};

struct Order {
  OrderKind kind = OrderKind::kForward;
  uint32_t seed = 1;  // of kRandom
};

// From $CCOE_EMULATION_ORDER ("forward", "backward" or "random"; forward where unset) until
// SetOrder. Another value ends the process.
Order CurrentOrder();
// For the launches that run from now on. Not while one runs.
void SetOrder(const Order& order);

}  // namespace ccoe::emulation

#endif  // CCOE_TESTS_KERNELS_CUDA_EMULATION_ORDER_H_
