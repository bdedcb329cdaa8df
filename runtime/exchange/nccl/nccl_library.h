// SPDX-License-Identifier: Apache-2.0
// NCCL's library, which a machine may lack.
#ifndef CCOE_RUNTIME_EXCHANGE_NCCL_NCCL_LIBRARY_H_
#define CCOE_RUNTIME_EXCHANGE_NCCL_NCCL_LIBRARY_H_

#include "absl/status/status.h"

namespace ccoe::exchange {

// Opens it. FAILED_PRECONDITION says what is missing; its functions then return ncclSystemError.
absl::Status OpenNccl();

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_NCCL_NCCL_LIBRARY_H_
