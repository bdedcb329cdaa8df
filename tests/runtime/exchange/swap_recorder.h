// Sends swaps over a link and keeps their answers: what every test of a transport needs.
#ifndef CCOE_TESTS_RUNTIME_EXCHANGE_SWAP_RECORDER_H_
#define CCOE_TESTS_RUNTIME_EXCHANGE_SWAP_RECORDER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "runtime/exchange/activation_link.h"
#include "tests/testing/device_rows.h"

namespace ccoe::exchange {

// Much longer than anything takes: a test that waits so long has failed.
inline constexpr absl::Duration kTestPatience = absl::Seconds(60);

// A value that says who sent it, in which step, in which row and column; exact in f32, and in bf16
// where `narrow`.
inline float TaggedValue(uint64_t sender, uint64_t step, int64_t row, int64_t column, bool narrow) {
  if (narrow) return static_cast<float>((sender * 31 + step * 7 + row * 3 + column) % 128) + 1.0f;
  return static_cast<float>(sender * 1000000 + (step % 100) * 10000 + (row % 100) * 100 +
                            column % 100) +
         0.5f;
}

inline StepHeader MakeHeader(uint64_t step, std::vector<SwapSequence> sequences,
                             int64_t hidden_size) {
  StepHeader header;
  header.step_id = step;
  header.expert = {"math", 1};
  header.layers = {6, 8};
  header.hidden_size = hidden_size;
  header.sequences = std::move(sequences);
  return header;
}

// A dispatch to layer 3 whose row r goes through experts_of[r].
inline StepHeader MakeDispatch(uint64_t step, const std::vector<std::vector<int32_t>>& experts_of,
                               int64_t hidden_size, bool combine = false) {
  StepHeader header;
  header.step_id = step;
  header.hidden_size = hidden_size;
  FfnDispatch& ffn = header.ffn.emplace();
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
  return header;
}

inline std::vector<float> TaggedRows(const StepHeader& header, uint64_t sender) {
  std::vector<float> rows;
  const bool narrow = header.wire_dtype == kernels::DType::kBF16;
  for (int64_t row = 0; row < header.rows(); ++row) {
    for (int64_t column = 0; column < header.hidden_size; ++column) {
      rows.push_back(TaggedValue(sender, header.step_id, row, column, narrow));
    }
  }
  return rows;
}

// Thread-safe. Its answers may arrive after it is gone.
class SwapRecorder {
 public:
  struct Answer {
    absl::StatusOr<SwapResult> result;
    int calls = 0;  // of the callback
  };

  // Sends `rows`, from the device where the link takes them there, and returns at once.
  void Send(ActivationLink& link, const StepHeader& header, const std::vector<float>& rows,
            absl::Time deadline = absl::Now() + kTestPatience) {
    const kernels::ConstMatrix matrix =
        kernels::F32Matrix(rows.data(), header.rows(), header.hidden_size);
    RowMemory* const memory = link.device_memory();
    const bool on_device = memory != nullptr && !rows.empty();
    link.Swap(header, on_device ? testing::ToDevice(*memory, matrix, header.wire_dtype) : matrix,
              deadline, Keep(header.step_id));
  }

  // Keeps the answer, its rows in host memory.
  SwapCallback Keep(uint64_t step) {
    return [shared = shared_, step](absl::StatusOr<SwapResult> result) {
      if (result.ok() && result->device_rows.on_device()) {
        result->rows = testing::HostValues(std::exchange(result->device_rows, {}));
      }
      absl::MutexLock lock(&shared->mutex);
      const auto [entry, fresh] =
          shared->answers.try_emplace(step, Answer{absl::UnknownError(""), 0});
      if (fresh) entry->second.result = std::move(result);
      ++entry->second.calls;
    };
  }

  // The answer to a step; DEADLINE_EXCEEDED "the test waited in vain" where none comes.
  absl::StatusOr<SwapResult> Await(uint64_t step) {
    absl::MutexLock lock(&shared_->mutex);
    auto there = [this, step]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(shared_->mutex) {
      return shared_->answers.count(step) > 0;
    };
    if (!shared_->mutex.AwaitWithTimeout(absl::Condition(&there), kTestPatience)) {
      return absl::DeadlineExceededError("the test waited in vain");
    }
    return shared_->answers.at(step).result;
  }

  // How often the callback of a step ran.
  int calls(uint64_t step) const {
    absl::MutexLock lock(&shared_->mutex);
    const auto found = shared_->answers.find(step);
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
