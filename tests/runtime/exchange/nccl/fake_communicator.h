// SPDX-License-Identifier: Apache-2.0
// Communicators of two ranks within one process, as strict as NCCL is: what one end posts must meet
// what the other end posts, in order, and nothing is through before.
#ifndef CCOE_TESTS_RUNTIME_EXCHANGE_NCCL_FAKE_COMMUNICATOR_H_
#define CCOE_TESTS_RUNTIME_EXCHANGE_NCCL_FAKE_COMMUNICATOR_H_

#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "runtime/exchange/nccl/communicator.h"

namespace ccoe::exchange {

// What both ends share.
class FakeWire {
 public:
  // From now on nothing gets through.
  void Cut() {
    absl::MutexLock lock(&mutex_);
    cut_ = true;
  }
  // Groups that met.
  int groups() const {
    absl::MutexLock lock(&mutex_);
    return groups_;
  }

 private:
  friend class FakeCommunicator;
  struct Group {
    std::vector<Communicator::Part> sends, receives;
    bool through = false;
  };

  // Both ends have posted: moves the bytes, or says that they do not match.
  bool MeetLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (int rank = 0; rank < 2; ++rank) {
      const auto &sends = posted_[rank]->sends, &receives = posted_[1 - rank]->receives;
      if (sends.size() != receives.size()) return false;
      for (size_t i = 0; i < sends.size(); ++i) {
        if (sends[i].bytes != receives[i].bytes) return false;
        std::memcpy(receives[i].data, sends[i].data, sends[i].bytes);
      }
    }
    ++groups_;
    return true;
  }

  mutable absl::Mutex mutex_;
  std::optional<Group> posted_[2] ABSL_GUARDED_BY(mutex_);
  bool begun_[2] ABSL_GUARDED_BY(mutex_) = {};
  bool cut_ ABSL_GUARDED_BY(mutex_) = false;
  bool mismatch_ ABSL_GUARDED_BY(mutex_) = false;
  int groups_ ABSL_GUARDED_BY(mutex_) = 0;
};

class FakeCommunicator final : public Communicator {
 public:
  FakeCommunicator(std::shared_ptr<FakeWire> wire, int rank)
      : wire_(std::move(wire)), rank_(rank) {}

  absl::Status Begin() override {
    absl::MutexLock lock(&wire_->mutex_);
    wire_->begun_[rank_] = true;
    return absl::OkStatus();
  }

  absl::Status Post(const std::vector<Part>& sends, const std::vector<Part>& receives) override {
    absl::MutexLock lock(&wire_->mutex_);
    if (wire_->posted_[rank_].has_value()) return absl::InternalError("two groups at once");
    wire_->posted_[rank_] = FakeWire::Group{sends, receives, false};
    running_ = true;
    return absl::OkStatus();
  }

  absl::StatusOr<bool> Poll() override {
    absl::MutexLock lock(&wire_->mutex_);
    if (!running_) return wire_->begun_[0] && wire_->begun_[1];
    auto& mine = wire_->posted_[rank_];
    auto& theirs = wire_->posted_[1 - rank_];
    if (mine.has_value() && !mine->through) {
      if (!theirs.has_value() || theirs->through || wire_->cut_) return false;
      if (!wire_->MeetLocked()) return absl::InternalError("the groups do not match");
      mine->through = theirs->through = true;
    }
    mine.reset();
    running_ = false;
    return true;
  }

  void Revoke() override {}
  bool Revoked() override { return true; }

 private:
  const std::shared_ptr<FakeWire> wire_;
  const int rank_;
  bool running_ = false;
};

}  // namespace ccoe::exchange

#endif  // CCOE_TESTS_RUNTIME_EXCHANGE_NCCL_FAKE_COMMUNICATOR_H_
