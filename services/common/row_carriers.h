// SPDX-License-Identifier: Apache-2.0
// How a worker's rows travel to workers in other processes and in this one.
#ifndef CCOE_SERVICES_COMMON_ROW_CARRIERS_H_
#define CCOE_SERVICES_COMMON_ROW_CARRIERS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/exchange/row_block.h"
#include "runtime/exchange/row_carrier.h"
#include "services/common/compute.h"

namespace ccoe::services {

enum class RowTransport : uint8_t {
  kAuto,  // NCCL where both ends have it, else messages
  kGrpc,  // in messages
  kNccl,  // NCCL or not at all
};

// "auto", "grpc", "nccl".
absl::StatusOr<RowTransport> ParseRowTransport(absl::string_view text);
absl::string_view RowTransportName(RowTransport transport);

// What rows on their way may take of the compute's device at once: of MakeRowCarriers, with the
// communicators of as many links as there may be, or of links within this process (`local`). 0 on
// the CPU, and where rows travel in messages alone.
int64_t RowMemoryBytes(RowTransport transport, bool local, const Compute& compute);

// Memory for the rows of links within this process: that of `carriers` (may be null), or its own.
// Null on the CPU, where rows need not stay anywhere.
absl::StatusOr<std::shared_ptr<exchange::RowMemory>> MakeLocalRowMemory(
    exchange::RowCarrierFactory* carriers, const Compute& compute);

// What links of this process carry rows with; null: messages. FAILED_PRECONDITION for kNccl without
// a GPU to compute with; with kAuto an NCCL that does not work is logged and done without.
absl::StatusOr<std::unique_ptr<exchange::RowCarrierFactory>> MakeRowCarriers(
    RowTransport transport, const Compute& compute);

// The expert workers of this process by address, for links without a wire. Thread-safe.
class LocalPeers {
 public:
  // `handler` must outlive all links to it, whether it was removed here or not.
  void Add(const std::string& address, exchange::SwapHandler* handler) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    handlers_[address] = handler;
  }

  void Remove(const std::string& address) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    handlers_.erase(address);
  }

  // Null where no expert worker of this process has this address.
  exchange::SwapHandler* Find(const std::string& address) const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    const auto it = handlers_.find(address);
    return it == handlers_.end() ? nullptr : it->second;
  }

 private:
  mutable absl::Mutex mutex_;
  std::map<std::string, exchange::SwapHandler*> handlers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_ROW_CARRIERS_H_
