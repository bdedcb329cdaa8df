// SPDX-License-Identifier: Apache-2.0
// Rows between GPUs by NCCL: one communicator of two ranks a link, so that a dead peer breaks one
// link, and one thread a GPU that drives them all (device_thread.h). No CUDA or NCCL includes; a
// build without --config=cuda links stub.cc.
#ifndef CCOE_RUNTIME_EXCHANGE_NCCL_NCCL_CARRIERS_H_
#define CCOE_RUNTIME_EXCHANGE_NCCL_NCCL_CARRIERS_H_

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/device.h"
#include "runtime/base/clock.h"
#include "runtime/exchange/row_carrier.h"

namespace ccoe::exchange {

struct NcclOptions {
  int device = 0;  // CUDA's number of the GPU that this process sends from and receives to
  // A round of rows (up to 4 MiB each way) that both ends have posted and that is not through after
  // so long ends the link: NCCL itself waits for ever. Much longer than it takes, shorter than a
  // query can wait.
  absl::Duration patience = absl::Milliseconds(800);
  // Thread blocks that one communicator's kernels may take from computing.
  int max_ctas = 2;
  // Links at once; those beyond carry rows in messages.
  int max_links = 16;
  // The same GPU as engine and runners know it, and what rows on their way may take of its memory
  // at once: they then go from there to there. Null: through host memory. Outlives the carriers.
  kernels::Device* memory_device = nullptr;
  size_t memory_bytes = size_t{256} << 20;
  const Clock* clock = nullptr;  // null: the system's
};

// Of the GPU's memory, for one link: two pieces of 4 MiB that rows of host memory go through, and
// what NCCL is taken to need for a communicator of two ranks and two channels. As much as the
// pieces is pinned on the host.
inline constexpr size_t kNcclLinkBytes = (size_t{8} << 20) + (size_t{32} << 20);

// What a memory plan has to leave for rows on their way and for as many links as there may be.
inline size_t NcclBytes(const NcclOptions& options) {
  return options.memory_bytes + static_cast<size_t>(options.max_links) * kNcclLinkBytes;
}

// UNIMPLEMENTED in a build without CUDA, FAILED_PRECONDITION without a usable device, without
// NCCL's library or with one older than 2.28, INTERNAL where NCCL has not so much memory.
absl::StatusOr<std::unique_ptr<RowCarrierFactory>> MakeNcclCarriers(const NcclOptions& options);

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_NCCL_NCCL_CARRIERS_H_
