// SPDX-License-Identifier: Apache-2.0
#include "services/offline/collector.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace ccoe::services {
namespace {

// Counts the queries in flight and wakes who waits for one to end. Thread-safe.
class Flight {
 public:
  void Add() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    ++in_flight_;
  }
  void Done() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    --in_flight_;
    ++finished_;
  }
  // Waits until fewer than `limit` are in flight; returns how many have finished so far.
  size_t AwaitBelow(int64_t limit) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    auto below = [this, limit]()
                     ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return in_flight_ < limit; };
    mutex_.Await(absl::Condition(&below));
    return finished_;
  }
  int64_t in_flight() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return in_flight_;
  }

 private:
  mutable absl::Mutex mutex_;
  int64_t in_flight_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t finished_ ABSL_GUARDED_BY(mutex_) = 0;
};

class CollectingSink final : public engine::TokenSink {
 public:
  CollectingSink(Answer* answer, Flight* flight) : answer_(answer), flight_(flight) {}

  void OnToken(const engine::GeneratedToken& token) override { answer_->tokens.push_back(token); }

  void OnLogits(int64_t first_position, absl::Span<const float> logits) override {
    answer_->logits.insert(answer_->logits.end(), logits.begin(), logits.end());
  }

  void OnHidden(int64_t first_position, int64_t rows, int64_t planes,
                absl::Span<const float> hidden) override {
    planes_.resize(planes);
    const int64_t size = static_cast<int64_t>(hidden.size()) / planes;
    for (int64_t p = 0; p < planes; ++p) {
      planes_[p].insert(planes_[p].end(), hidden.begin() + p * size,
                        hidden.begin() + (p + 1) * size);
    }
  }

  void OnRouting(int32_t layer, int64_t first_position, absl::Span<const int32_t> offsets,
                 absl::Span<const int32_t> experts, absl::Span<const float> weights) override {
    std::vector<RowChoice>& choices = answer_->routing[layer];
    const size_t first = static_cast<size_t>(first_position);
    choices.resize(std::max(choices.size(), first + offsets.size() - 1));
    for (size_t r = 0; r + 1 < offsets.size(); ++r) {
      const size_t begin = static_cast<size_t>(offsets[r]);
      const size_t count = static_cast<size_t>(offsets[r + 1]) - begin;
      const auto chosen = experts.subspan(begin, count);
      const auto weighted = weights.subspan(begin, count);
      choices[first + r] = {{chosen.begin(), chosen.end()}, {weighted.begin(), weighted.end()}};
    }
  }

  void OnFinish(engine::FinishReason reason, const absl::Status& status,
                const engine::Usage& usage) override {
    answer_->reason = reason;
    answer_->status = status;
    answer_->usage = usage;
    for (const std::vector<float>& plane : planes_) {
      answer_->hidden.insert(answer_->hidden.end(), plane.begin(), plane.end());
    }
    flight_->Done();
  }

 private:
  Answer* const answer_;
  Flight* const flight_;
  std::vector<std::vector<float>> planes_;  // [layers + 1] of [rows so far, hidden_size]
};

// Submits `query`, waiting for others to end while the engine's queue is full.
absl::Status SubmitPatiently(engine::Engine& engine, const engine::EngineRequest& query,
                             Answer* answer, Flight& flight) {
  while (true) {
    flight.Add();
    const auto handle = engine.Submit(query, std::make_unique<CollectingSink>(answer, &flight));
    if (handle.ok()) return absl::OkStatus();
    flight.Done();
    const int64_t others = flight.in_flight();
    if (!absl::IsResourceExhausted(handle.status()) || others == 0) return handle.status();
    flight.AwaitBelow(others);
  }
}

}  // namespace

std::vector<Answer> RunQueries(engine::Engine& engine,
                               const std::vector<engine::EngineRequest>& queries,
                               int64_t max_in_flight, const std::function<void(size_t)>& on_done) {
  std::vector<Answer> answers(queries.size());
  Flight flight;
  auto report = [&on_done](size_t finished) {
    if (on_done) on_done(finished);
  };
  for (size_t i = 0; i < queries.size(); ++i) {
    report(flight.AwaitBelow(max_in_flight));
    const absl::Status status = SubmitPatiently(engine, queries[i], &answers[i], flight);
    if (!status.ok()) answers[i].status = status;
  }
  for (int64_t left = flight.in_flight(); left > 0; left = flight.in_flight())
    report(flight.AwaitBelow(left));
  report(queries.size());
  return answers;
}

}  // namespace ccoe::services
