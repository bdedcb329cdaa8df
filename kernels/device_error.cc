// SPDX-License-Identifier: Apache-2.0
#include "kernels/device_error.h"

namespace ccoe::kernels {

bool IsDeviceFailure(const absl::Status& error) {
  switch (error.code()) {
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kDataLoss:
      return true;
    default:
      return false;
  }
}

}  // namespace ccoe::kernels
