// SPDX-License-Identifier: Apache-2.0
// For builds without CUDA.
#include "absl/status/status.h"
#include "runtime/exchange/nccl/nccl_carriers.h"

namespace ccoe::exchange {

absl::StatusOr<std::unique_ptr<RowCarrierFactory>> MakeNcclCarriers(const NcclOptions&) {
  return absl::UnimplementedError(
      "NCCL: this binary was built without CUDA; build with --config=cuda");
}

}  // namespace ccoe::exchange
