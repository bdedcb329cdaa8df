// SPDX-License-Identifier: Apache-2.0
// The nonlinearities of feed-forward blocks.
#ifndef CCOE_KERNELS_ACTIVATION_H_
#define CCOE_KERNELS_ACTIVATION_H_

#include <cstdint>

namespace ccoe::kernels {

enum class Activation : uint8_t { kSilu, kGeluTanh, kGeluErf };

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_ACTIVATION_H_
