// SPDX-License-Identifier: Apache-2.0
// Values that are made on the device: weights of gigabytes need not travel.
#ifndef CCOE_TOOLS_GPU_PROBE_DEVICE_FILL_H_
#define CCOE_TOOLS_GPU_PROBE_DEVICE_FILL_H_

#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/dtype.h"

namespace ccoe::probe {

// Element i becomes mean + deviation * a uniform value of that deviation, a function of seed and i.
struct FillParams {
  void* data;
  int64_t count;
  kernels::DType dtype;
  uint32_t seed;
  float mean, deviation;
};
void FillOnDevice(kernels::Launcher* launcher, const FillParams& params);

}  // namespace ccoe::probe

#endif  // CCOE_TOOLS_GPU_PROBE_DEVICE_FILL_H_
