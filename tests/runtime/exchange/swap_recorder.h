// SPDX-License-Identifier: Apache-2.0
// Sends swaps over a link and keeps their answers: what every test of a transport needs.
#ifndef CCOE_TESTS_RUNTIME_EXCHANGE_SWAP_RECORDER_H_
#define CCOE_TESTS_RUNTIME_EXCHANGE_SWAP_RECORDER_H_

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
#include "gmock/gmock.h"
#include "runtime/exchange/activation_link.h"
#include "tests/testing/device_rows.h"

namespace ccoe::exchange {

// Much longer than anything takes: a test that waits so long has failed.
inline constexpr absl::Duration kTestPatience = absl::Seconds(60);

inline const absl::Status& StatusIn(const absl::Status& status) { return status; }
template <typename T>
const absl::Status& StatusIn(const absl::StatusOr<T>& result) {
  return result.status();
}

// A status, or a result without value, of `reason` and with a message that `message` matches.
MATCHER_P2(FailsWith, reason, message,
           std::string("fails with: ") + std::string(SwapReasonName(reason))) {
  const absl::Status status = StatusIn(arg);
  *result_listener << status << " (" << std::string(SwapReasonName(ReasonOf(status))) << ")";
  return ReasonOf(status) == reason && ::testing::Matches(message)(std::string(status.message()));
}
template <typename Reason>
auto FailsWith(Reason reason) {
  return FailsWith(reason, ::testing::_);
}

// A value that says who sent it, in which swap, in which row and column; exact in f32, and in bf16
// where `narrow`.
inline float TaggedValue(uint64_t sender, uint64_t swap, int64_t row, int64_t column, bool narrow) {
  if (narrow) return static_cast<float>((sender * 31 + swap * 7 + row * 3 + column) % 128) + 1.0f;
  return static_cast<float>(sender * 1000000 + (swap % 100) * 10000 + (row % 100) * 100 +
                            column % 100) +
         0.5f;
}

inline SwapHeader MakeHeader(uint64_t id, std::vector<SwapSequence> sequences,
                             int64_t hidden_size) {
  SwapHeader header;
  header.id = id;
  header.format.hidden_size = hidden_size;
  header.work = LayerSwap{{"math", 1}, {6, 8}, false, std::move(sequences)};
  return header;
}
inline LayerSwap& LayerOf(SwapHeader& header) { return std::get<LayerSwap>(header.work); }
inline FfnSwap& FfnOf(SwapHeader& header) { return std::get<FfnSwap>(header.work); }

// A dispatch to layer 3 whose row r goes through experts_of[r].
inline SwapHeader MakeDispatch(uint64_t id, const std::vector<std::vector<int32_t>>& experts_of,
                               int64_t hidden_size, bool combine = false) {
  FfnSwap ffn;
  ffn.layer = 3;
  ffn.combine = combine;
  ffn.offsets.push_back(0);
  for (const std::vector<int32_t>& experts : experts_of) {
    for (const int32_t expert : experts) {
      ffn.experts.push_back(expert);
      ffn.weights.push_back(1.0f / static_cast<float>(ffn.experts.size() + 2));
    }
    ffn.offsets.push_back(static_cast<int32_t>(ffn.experts.size()));
  }
  SwapHeader header;
  header.id = id;
  header.format.hidden_size = hidden_size;
  header.work = std::move(ffn);
  return header;
}

inline std::vector<float> TaggedRows(const SwapHeader& header, uint64_t sender) {
  std::vector<float> rows;
  const bool narrow = header.format.dtype == kernels::DType::kBF16;
  for (int64_t row = 0; row < header.rows(); ++row) {
    for (int64_t column = 0; column < header.format.hidden_size; ++column) {
      rows.push_back(TaggedValue(sender, header.id, row, column, narrow));
    }
  }
  return rows;
}

// An envelope with one swap more.
inline Envelope& Add(Envelope& envelope, SwapHeader header, SwapRows rows) {
  envelope.swaps.push_back({std::move(header), std::move(rows)});
  return envelope;
}
inline Envelope OneSwap(SwapHeader header, SwapRows rows) {
  Envelope envelope;
  envelope.step_id = 1000 + header.id;
  return std::move(Add(envelope, std::move(header), std::move(rows)));
}
inline Envelope OneSwap(SwapHeader header, std::vector<float> rows) {
  return OneSwap(std::move(header), SwapRows{RowBlock(std::move(rows)), {}});
}

// Thread-safe. Its answers may arrive after it is gone.
class SwapRecorder {
 public:
  struct Answer {
    absl::StatusOr<SwapResult> result;
    int calls = 0;  // of the callback
  };

  // Sends `rows`, from the device where the link takes them there, and returns at once.
  void Send(ActivationLink& link, const SwapHeader& header, const std::vector<float>& rows) {
    RowMemory* const memory = link.device_memory();
    if (memory == nullptr || rows.empty()) return link.Send(OneSwap(header, rows), Keep());
    const kernels::ConstMatrix matrix =
        kernels::F32Matrix(rows.data(), header.rows(), header.format.hidden_size);
    link.Send(OneSwap(header, {testing::ToDevice(*memory, matrix, header.format.dtype), {}}),
              Keep());
  }

  // Keeps answers, their rows in host memory.
  SwapCallback Keep() {
    return [shared = shared_](uint64_t swap, absl::StatusOr<SwapResult> result) {
      if (result.ok() && result->device_rows.on_device()) {
        result->rows = testing::HostValues(std::exchange(result->device_rows, {}));
      }
      absl::MutexLock lock(&shared->mutex);
      const auto [entry, fresh] =
          shared->answers.try_emplace(swap, Answer{absl::UnknownError(""), 0});
      if (fresh) entry->second.result = std::move(result);
      ++entry->second.calls;
    };
  }

  // The answer to a swap; DEADLINE_EXCEEDED "the test waited in vain" where none comes.
  absl::StatusOr<SwapResult> Await(uint64_t swap) {
    absl::MutexLock lock(&shared_->mutex);
    auto there = [this, swap]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(shared_->mutex) {
      return shared_->answers.count(swap) > 0;
    };
    if (!shared_->mutex.AwaitWithTimeout(absl::Condition(&there), kTestPatience)) {
      return absl::DeadlineExceededError("the test waited in vain");
    }
    return shared_->answers.at(swap).result;
  }

  // How often the callback of a swap ran.
  int calls(uint64_t swap) const {
    absl::MutexLock lock(&shared_->mutex);
    const auto found = shared_->answers.find(swap);
    return found == shared_->answers.end() ? 0 : found->second.calls;
  }

 private:
  struct Shared {
    absl::Mutex mutex;
    std::map<uint64_t, Answer> answers ABSL_GUARDED_BY(mutex);
  };
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

}  // namespace ccoe::exchange

#endif  // CCOE_TESTS_RUNTIME_EXCHANGE_SWAP_RECORDER_H_
