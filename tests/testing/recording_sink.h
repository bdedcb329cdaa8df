// SPDX-License-Identifier: Apache-2.0
// A TokenSink that keeps everything, and lets a test wait for it.
#ifndef CCOE_TESTS_TESTING_RECORDING_SINK_H_
#define CCOE_TESTS_TESTING_RECORDING_SINK_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "runtime/engine/request.h"

namespace ccoe::testing {

// What one query got.
struct RecordedAnswer {
  std::vector<engine::GeneratedToken> tokens;
  std::vector<float> logits;               // of all prompt rows so far
  std::vector<int64_t> logits_positions;   // first_position of each OnLogits
  std::vector<std::vector<float>> hidden;  // by plane: [rows so far, hidden_size]
  bool hidden_in_order = true;             // each OnHidden began where the one before ended
  int64_t hidden_rows = 0;
  int finishes = 0;
  engine::FinishReason reason = engine::FinishReason::kError;
  absl::Status status;
  engine::Usage usage;

  std::vector<int32_t> ids() const {
    std::vector<int32_t> ids;
    for (const auto& token : tokens) ids.push_back(token.token_id);
    return ids;
  }
};

// Outlives its sink. Thread-safe.
class AnswerRecorder {
 public:
  using Hook = std::function<void(const RecordedAnswer&)>;

  AnswerRecorder() : state_(std::make_shared<State>()) {}

  // For one query. `on_token` runs on the engine's thread after each token.
  std::unique_ptr<engine::TokenSink> Sink(Hook on_token = nullptr) {
    return std::make_unique<RecordingSink>(state_, std::move(on_token));
  }

  // The answer once it is finished; as it is (finishes == 0) after `timeout`.
  RecordedAnswer Wait(absl::Duration timeout = absl::Seconds(60)) const {
    return Await([](const RecordedAnswer& answer) { return answer.finishes > 0; }, timeout);
  }
  // The answer once it has `count` tokens or is finished.
  RecordedAnswer AwaitTokens(size_t count, absl::Duration timeout = absl::Seconds(60)) const {
    return Await(
        [count](const RecordedAnswer& a) { return a.finishes > 0 || a.tokens.size() >= count; },
        timeout);
  }
  RecordedAnswer Now() const {
    return Await([](const RecordedAnswer&) { return true; }, absl::ZeroDuration());
  }

 private:
  struct State {
    absl::Mutex mutex;
    RecordedAnswer answer ABSL_GUARDED_BY(mutex);
  };

  class RecordingSink final : public engine::TokenSink {
   public:
    RecordingSink(std::shared_ptr<State> state, Hook on_token)
        : state_(std::move(state)), on_token_(std::move(on_token)) {}

    void OnToken(const engine::GeneratedToken& token) override {
      absl::MutexLock lock(&state_->mutex);
      state_->answer.tokens.push_back(token);
      if (on_token_) on_token_(state_->answer);
    }
    void OnLogits(int64_t first_position, absl::Span<const float> logits) override {
      absl::MutexLock lock(&state_->mutex);
      RecordedAnswer& answer = state_->answer;
      answer.logits_positions.push_back(first_position);
      answer.logits.insert(answer.logits.end(), logits.begin(), logits.end());
    }
    void OnHidden(int64_t first_position, int64_t rows, int64_t planes,
                  absl::Span<const float> hidden) override {
      absl::MutexLock lock(&state_->mutex);
      RecordedAnswer& answer = state_->answer;
      answer.hidden_in_order = answer.hidden_in_order && first_position == answer.hidden_rows;
      answer.hidden_rows += rows;
      answer.hidden.resize(planes);
      const int64_t plane_values = static_cast<int64_t>(hidden.size()) / planes;
      for (int64_t plane = 0; plane < planes; ++plane) {
        const auto part = hidden.subspan(plane * plane_values, plane_values);
        answer.hidden[plane].insert(answer.hidden[plane].end(), part.begin(), part.end());
      }
    }
    void OnFinish(engine::FinishReason reason, const absl::Status& status,
                  const engine::Usage& usage) override {
      absl::MutexLock lock(&state_->mutex);
      ++state_->answer.finishes;
      state_->answer.reason = reason;
      state_->answer.status = status;
      state_->answer.usage = usage;
    }

   private:
    const std::shared_ptr<State> state_;
    const Hook on_token_;
  };

  RecordedAnswer Await(const std::function<bool(const RecordedAnswer&)>& ready,
                       absl::Duration timeout) const {
    absl::MutexLock lock(&state_->mutex);
    const auto condition = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_->mutex) {
      return ready(state_->answer);
    };
    state_->mutex.AwaitWithTimeout(absl::Condition(&condition), timeout);
    return state_->answer;
  }

  const std::shared_ptr<State> state_;
};

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_RECORDING_SINK_H_
