// SPDX-License-Identifier: Apache-2.0
// A link's communicator over NCCL, of which rank 0 opened the link, with a stream and pieces of
// memory of its own.
#ifndef CCOE_RUNTIME_EXCHANGE_NCCL_NCCL_COMMUNICATOR_H_
#define CCOE_RUNTIME_EXCHANGE_NCCL_NCCL_COMMUNICATOR_H_

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/exchange/nccl/communicator.h"
#include "runtime/exchange/nccl/nccl_carriers.h"
#include "runtime/exchange/row_block.h"

namespace ccoe::exchange {

// INTERNAL: "<what>: <NCCL's text>", with NCCL's last detail where there is one.
absl::Status NcclStatus(ncclResult_t result, absl::string_view what, ncclComm_t comm = nullptr);

// Nothing here waits for the GPU or for the peer: events are polled, beside NCCL's own state.
class NcclCommunicator final : public Communicator {
 public:
  // Where it is and whom it meets.
  struct Place {
    ncclUniqueId id;
    int rank = 0;
    const RowMemory* memory = nullptr;  // of parts on the device; null: no such parts
    std::shared_ptr<const void> slot;   // goes with this object
  };
  NcclCommunicator(Place place, const NcclOptions& options)
      : place_(std::move(place)), options_(options), peer_(1 - place_.rank) {}
  ~NcclCommunicator() override;

  absl::Status Begin() override;
  absl::Status Post(const std::vector<Part>& sends, const std::vector<Part>& receives) override;
  absl::StatusOr<bool> Poll() override;
  void Revoke() override;
  bool Revoked() override;

 private:
  // A piece that rows of host memory go through.
  struct Staging {
    void* device = nullptr;  // from ncclMemAlloc
    char* host = nullptr;    // pinned
  };
  enum class State {
    kIdle,
    kMeeting,     // the communicator is being made
    kEnqueueing,  // NCCL puts a group's kernel on the stream
    kTravelling,  // the kernel runs
    kCopying,     // what was received goes to host memory
  };

  absl::Status Take(Staging& staging);
  absl::Status Register();
  absl::Status Group(const std::vector<Part>& sends, const std::vector<Part>& receives);
  // Whether the stream has come to the event; errors of either kind.
  absl::StatusOr<bool> EventIsThere();
  absl::Status MarkEvent(State next);
  // Each moves on from its state; true: there is another one to look at now.
  absl::StatusOr<bool> Met();
  absl::StatusOr<bool> Enqueued();
  absl::StatusOr<bool> Travelled();
  absl::StatusOr<bool> Copied();

  const Place place_;
  const NcclOptions options_;
  const int peer_;
  State state_ = State::kIdle;
  bool revoked_ = false;
  ncclComm_t comm_ = nullptr;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t done_ = nullptr;
  Staging out_, in_;
  std::vector<Part> received_;  // parts in host memory, whose bytes lie in in_, one after the other
};

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_NCCL_NCCL_COMMUNICATOR_H_
