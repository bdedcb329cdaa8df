// One direction of a link: a communicator of two ranks, of which rank 0 opened the link, with a
// stream and buffers of its own.
#ifndef CCOE_RUNTIME_EXCHANGE_NCCL_NCCL_CHANNEL_H_
#define CCOE_RUNTIME_EXCHANGE_NCCL_NCCL_CHANNEL_H_

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <atomic>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "runtime/exchange/nccl/nccl_carriers.h"
#include "runtime/exchange/row_block.h"
#include "runtime/exchange/row_memory.h"

namespace ccoe::exchange {

// INTERNAL: "<what>: <NCCL's text>", with NCCL's last detail where there is one.
absl::Status NcclStatus(ncclResult_t result, absl::string_view what, ncclComm_t comm = nullptr);

// Nothing here waits for the GPU without a deadline: events are polled, beside NCCL's own state and
// the wish to stop. Thread-safe; calls of Send and Receive take turns.
class NcclChannel {
 public:
  // Where a channel is and whom it meets.
  struct Place {
    ncclUniqueId id;
    int rank = 0;
    const RowMemory* memory = nullptr;  // of SendRows and ReceiveRows; null: no such calls
  };
  // Meets the peer's rank; DEADLINE_EXCEEDED where it does not come.
  static absl::StatusOr<std::unique_ptr<NcclChannel>> Create(const Place& place,
                                                             const NcclOptions& options,
                                                             absl::Time deadline);
  ~NcclChannel();  // Stop, Revoke, aborts

  // As RowCarrier, with `patience` for each piece. After an error the channel is of no more use.
  absl::Status Send(absl::string_view bytes, absl::Duration patience) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Receive(std::string& bytes, absl::Duration patience) ABSL_LOCKS_EXCLUDED(mutex_);
  // Straight from the rows' memory, and into it.
  absl::Status SendRows(const RowBlock& rows, absl::Duration patience) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status ReceiveRows(const RowMemory::Fresh& rows, absl::Duration patience)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Transfers that run end soon, others are refused. Returns at once.
  void Stop() { stopping_.store(true); }

  // After Stop: ends NCCL's kernels. All channels of a link are revoked before one is destroyed:
  // freeing one may wait for the device, and so for the others' kernels.
  void Revoke() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  NcclChannel(int rank, const NcclOptions& options) : options_(options), peer_(1 - rank) {}

  absl::Status Init(const Place& place, absl::Time deadline) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Register(const RowMemory* memory) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Usable() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Calls `piece` with the place and size of one piece after the other. After an error `rows` stays
  // with the channel: what runs on may still touch it.
  using Piece = absl::FunctionRef<ncclResult_t(char* data, size_t bytes)>;
  absl::Status RunPieces(const RowBlock& rows, void* data, absl::Duration patience, Piece piece)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Runs `enqueue` and waits until what it has put on the stream is done. On error the channel is
  // broken.
  absl::Status RunPiece(absl::FunctionRef<absl::Status()> enqueue, absl::Duration patience)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status AwaitEnqueued(absl::Time deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status AwaitEvent(absl::Time deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckGoing(absl::Time deadline) const;

  const NcclOptions options_;
  const int peer_;
  std::atomic<bool> stopping_ = false;
  absl::Mutex mutex_;  // held over every call of NCCL: none may run beside an abort
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;
  bool revoked_ ABSL_GUARDED_BY(mutex_) = false;
  ncclComm_t comm_ ABSL_GUARDED_BY(mutex_) = nullptr;
  cudaStream_t stream_ ABSL_GUARDED_BY(mutex_) = nullptr;
  cudaEvent_t done_ ABSL_GUARDED_BY(mutex_) = nullptr;
  void* device_ ABSL_GUARDED_BY(mutex_) = nullptr;  // a piece, from ncclMemAlloc
  char* host_ ABSL_GUARDED_BY(mutex_) = nullptr;    // a piece, pinned
  RowBlock broken_rows_ ABSL_GUARDED_BY(mutex_);    // of the transfer that failed; goes last
};

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_NCCL_NCCL_CHANNEL_H_
