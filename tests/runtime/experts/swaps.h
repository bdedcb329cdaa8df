// SPDX-License-Identifier: Apache-2.0
// Swaps of both kinds, and what becomes of them, for tests of what computes them.
#ifndef CCOE_TESTS_RUNTIME_EXPERTS_SWAPS_H_
#define CCOE_TESTS_RUNTIME_EXPERTS_SWAPS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/exchange/envelope.h"
#include "runtime/experts/unit_queue.h"

namespace ccoe::experts {

// Much longer than anything takes: a test that waits so long has failed.
inline constexpr absl::Duration kTestPatience = absl::Seconds(60);

inline exchange::SwapHeader LayerHeader(uint64_t id, std::vector<exchange::SwapSequence> sequences,
                                        const std::string& expert = "math",
                                        model::LayerRange layers = {1, 3},
                                        int64_t hidden_size = 32) {
  exchange::SwapHeader header;
  header.id = id;
  header.format.hidden_size = hidden_size;
  exchange::LayerSwap swap;
  swap.expert = {expert, 1};
  swap.layers = layers;
  swap.sequences = std::move(sequences);
  header.work = std::move(swap);
  return header;
}

// For `layer`; row r goes through experts_of[r].
inline exchange::SwapHeader FfnHeader(uint64_t id, int32_t layer,
                                      const std::vector<std::vector<int32_t>>& experts_of,
                                      int64_t hidden_size, bool combine = false) {
  exchange::SwapHeader header;
  header.id = id;
  header.format.hidden_size = hidden_size;
  exchange::FfnSwap swap;
  swap.layer = layer;
  swap.combine = combine;
  swap.offsets.push_back(0);
  for (const std::vector<int32_t>& experts : experts_of) {
    for (const int32_t expert : experts) {
      swap.experts.push_back(expert);
      swap.weights.push_back(1.0f / static_cast<float>(swap.experts.size() + 2));
    }
    swap.offsets.push_back(static_cast<int32_t>(swap.experts.size()));
  }
  header.work = std::move(swap);
  return header;
}

inline WaitingSwap Waiting(exchange::SwapHeader header, exchange::RowBlock rows = {},
                           uint64_t peer_id = 1) {
  WaitingSwap waiting;
  waiting.peer_id = peer_id;
  waiting.swap = {std::move(header), {std::move(rows), {}}};
  return waiting;
}

inline exchange::Envelope EnvelopeOf(exchange::SwapHeader header, exchange::RowBlock rows) {
  exchange::Envelope envelope;
  envelope.swaps.push_back({std::move(header), {std::move(rows), {}}});
  return envelope;
}

// Keeps answers by swap id. Thread-safe; they may arrive after it is gone.
class AnswerBook {
 public:
  exchange::SwapCallback Keep() {
    return [shared = shared_](uint64_t id, absl::StatusOr<exchange::SwapResult> result) {
      absl::MutexLock lock(&shared->mutex);
      ++shared->calls[id];
      shared->answers.emplace(id, std::move(result));
    };
  }

  // DEADLINE_EXCEEDED "the test waited in vain" where no answer comes.
  absl::StatusOr<exchange::SwapResult> Await(uint64_t id) {
    absl::MutexLock lock(&shared_->mutex);
    auto there = [this, id]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(shared_->mutex) {
      return shared_->calls.count(id) > 0;
    };
    if (!shared_->mutex.AwaitWithTimeout(absl::Condition(&there), kTestPatience)) {
      return absl::DeadlineExceededError("the test waited in vain");
    }
    return shared_->answers.at(id);
  }

  // How often the swap was answered.
  int calls(uint64_t id) const {
    absl::MutexLock lock(&shared_->mutex);
    const auto found = shared_->calls.find(id);
    return found == shared_->calls.end() ? 0 : found->second;
  }

 private:
  struct Shared {
    absl::Mutex mutex;
    std::map<uint64_t, int> calls ABSL_GUARDED_BY(mutex);
    std::map<uint64_t, absl::StatusOr<exchange::SwapResult>> answers ABSL_GUARDED_BY(mutex);
  };
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

}  // namespace ccoe::experts

#endif  // CCOE_TESTS_RUNTIME_EXPERTS_SWAPS_H_
