// SPDX-License-Identifier: Apache-2.0
// How many links one GPU has: each takes memory of it, and each id that a peer never uses leaves a
// thread and a socket of NCCL's bootstrap behind, for good.
#ifndef CCOE_RUNTIME_EXCHANGE_NCCL_LINK_SLOTS_H_
#define CCOE_RUNTIME_EXCHANGE_NCCL_LINK_SLOTS_H_

#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "runtime/base/status_macros.h"

namespace ccoe::exchange {

// Thread-safe.
class LinkSlots : public std::enable_shared_from_this<LinkSlots> {
 public:
  // Ids made whose peers have not come; no further one is made then.
  static constexpr int kMaxPromises = 64;

  explicit LinkSlots(int max_links) : max_links_(max_links) {}

  // An id is about to be made. RESOURCE_EXHAUSTED where there is no room for its link, or where too
  // many peers did not come.
  absl::Status Promise() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (promises_ >= kMaxPromises) {
      return absl::ResourceExhaustedError(absl::StrCat(
          promises_, " ids were made whose peers did not come: no more until this restarts"));
    }
    CCOE_RETURN_IF_ERROR(RoomLocked());
    ++promises_;
    return absl::OkStatus();
  }
  // The peer came.
  void Kept() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    --promises_;
  }

  // Room for one link, which goes with what comes back.
  absl::StatusOr<std::shared_ptr<const void>> Take() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    CCOE_RETURN_IF_ERROR(RoomLocked());
    ++links_;
    return std::shared_ptr<const void>(this, [self = shared_from_this()](const void*) {
      absl::MutexLock lock(&self->mutex_);
      --self->links_;
    });
  }

 private:
  absl::Status RoomLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (links_ < max_links_) return absl::OkStatus();
    return absl::ResourceExhaustedError(
        absl::StrCat(links_, " links are open on this GPU, at most ", max_links_));
  }

  const int max_links_;
  absl::Mutex mutex_;
  int links_ ABSL_GUARDED_BY(mutex_) = 0;
  int promises_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_NCCL_LINK_SLOTS_H_
