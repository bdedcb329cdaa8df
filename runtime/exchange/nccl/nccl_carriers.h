// Rows between GPUs by NCCL: two communicators of two ranks a link, one for each direction, so that
// a dead peer breaks one link and both directions can be under way. No CUDA or NCCL includes; a
// build without --config=cuda links stub.cc.
#ifndef CCOE_RUNTIME_EXCHANGE_NCCL_NCCL_CARRIERS_H_
#define CCOE_RUNTIME_EXCHANGE_NCCL_NCCL_CARRIERS_H_

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/device.h"
#include "runtime/exchange/row_carrier.h"

namespace ccoe::exchange {

struct NcclOptions {
  int device = 0;  // CUDA's number of the GPU that this process sends from and receives to
  // A piece of a transfer (4 MiB) that is not through after so long ends the link: NCCL itself
  // waits for ever. Much longer than a piece takes, shorter than a query can wait.
  absl::Duration patience = absl::Milliseconds(800);
  // Thread blocks that one communicator's kernels may take from computing.
  int max_ctas = 2;
  // The same GPU as engine and runners know it, and what rows on their way may take of its memory
  // at once: they then go from there to there. Null: through host memory. Outlives the carriers.
  kernels::Device* memory_device = nullptr;
  size_t memory_bytes = size_t{256} << 20;
};

// UNIMPLEMENTED in a build without CUDA, FAILED_PRECONDITION without a usable device, without NCCL's
// library or with one older than 2.28, INTERNAL where NCCL has not so much memory. Each link takes 8 MiB of the
// device's memory and as much pinned.
absl::StatusOr<std::unique_ptr<RowCarrierFactory>> MakeNcclCarriers(const NcclOptions& options);

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_NCCL_NCCL_CARRIERS_H_
