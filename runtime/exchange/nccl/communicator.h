// SPDX-License-Identifier: Apache-2.0
// One link's communicator of two ranks, as the device's thread drives it. Implemented over NCCL
// (nccl_communicator.h) and by fakes in tests.
#ifndef CCOE_RUNTIME_EXCHANGE_NCCL_COMMUNICATOR_H_
#define CCOE_RUNTIME_EXCHANGE_NCCL_COMMUNICATOR_H_

#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace ccoe::exchange {

// All calls come from one thread and none of them waits. Destroying it aborts what runs.
class Communicator {
 public:
  virtual ~Communicator() = default;

  // Begins to meet the peer's rank; a byte goes each way, so that both are connected.
  virtual absl::Status Begin() = 0;

  // Memory of a transfer's piece: of the device, in the carriers' memory, or of the host.
  struct Part {
    void* data = nullptr;
    size_t bytes = 0;
    bool on_device = false;
  };
  // Posts sends and receives as one group; what is sent from host memory is copied first. The
  // parts' memory is touched until Poll says true, or until this object is gone.
  virtual absl::Status Post(const std::vector<Part>& sends, const std::vector<Part>& receives) = 0;

  // Whether what was begun or posted last is done. An error: the communicator is of no more use.
  virtual absl::StatusOr<bool> Poll() = 0;

  // Ends what runs without freeing anything: all that end at once are revoked before one is
  // destroyed, since freeing may wait for the device, and so for the others' kernels.
  virtual void Revoke() = 0;
  // Whether what ran has ended since.
  virtual bool Revoked() = 0;
};

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_NCCL_COMMUNICATOR_H_
