// SPDX-License-Identifier: Apache-2.0
// Which errors of a device and its ops mean that it works no more.
#ifndef CCOE_KERNELS_DEVICE_ERROR_H_
#define CCOE_KERNELS_DEVICE_ERROR_H_

#include "absl/status/status.h"

namespace ccoe::kernels {

// True: whatever runs there next fails too (it is gone, or its context is lost). False: the error
// is of one pass, its rows or memory that is short; the device is as it was.
bool IsDeviceFailure(const absl::Status& error);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_DEVICE_ERROR_H_
