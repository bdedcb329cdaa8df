// SPDX-License-Identifier: Apache-2.0
// An engine that says what a test tells it, when it tells it.
#ifndef CCOE_TESTS_TESTING_SCRIPTED_QUERY_ENGINE_H_
#define CCOE_TESTS_TESTING_SCRIPTED_QUERY_ENGINE_H_

#include <map>
#include <memory>
#include <set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "services/backbone/backbone_service.h"

namespace ccoe::testing {

// Queries wait until the test speaks for them. Handles count from 1. Thread-safe.
class ScriptedQueryEngine final : public services::QueryEngine {
 public:
  // An error answers every Submit from now on.
  void Refuse(absl::Status status) {
    absl::MutexLock lock(&mutex_);
    refusal_ = std::move(status);
  }

  absl::StatusOr<uint64_t> Submit(engine::EngineRequest query,
                                  std::unique_ptr<engine::TokenSink> sink) override {
    absl::MutexLock lock(&mutex_);
    if (!refusal_.ok()) return refusal_;
    const uint64_t handle = ++submitted_;
    queries_[handle] = std::move(query);
    sinks_[handle] = std::move(sink);
    return handle;
  }

  void Cancel(uint64_t handle) override {
    absl::MutexLock lock(&mutex_);
    cancelled_.insert(handle);
  }

  // What was submitted as the `handle`-th query; waits for it, at most a minute.
  engine::EngineRequest AwaitQuery(uint64_t handle) {
    absl::MutexLock lock(&mutex_);
    const auto there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return submitted_ >= handle; };
    mutex_.AwaitWithTimeout(absl::Condition(&there), absl::Minutes(1));
    return queries_[handle];
  }

  // False after a minute.
  bool AwaitCancel(uint64_t handle) {
    absl::MutexLock lock(&mutex_);
    const auto cancelled = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return cancelled_.count(handle) != 0;
    };
    return mutex_.AwaitWithTimeout(absl::Condition(&cancelled), absl::Minutes(1));
  }

  bool cancelled(uint64_t handle) {
    absl::MutexLock lock(&mutex_);
    return cancelled_.count(handle) != 0;
  }

  void Say(uint64_t handle, int32_t token_id) {
    engine::GeneratedToken token;
    token.token_id = token_id;
    Sink(handle)->OnToken(token);
  }

  // Ends the query and lets go of its sink.
  void Finish(uint64_t handle, engine::FinishReason reason,
              const absl::Status& status = absl::OkStatus(), const engine::Usage& usage = {}) {
    Sink(handle)->OnFinish(reason, status, usage);
    absl::MutexLock lock(&mutex_);
    sinks_.erase(handle);
  }

 private:
  engine::TokenSink* Sink(uint64_t handle) {
    absl::MutexLock lock(&mutex_);
    return sinks_.at(handle).get();
  }

  absl::Mutex mutex_;
  absl::Status refusal_ ABSL_GUARDED_BY(mutex_);
  uint64_t submitted_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, engine::EngineRequest> queries_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, std::unique_ptr<engine::TokenSink>> sinks_ ABSL_GUARDED_BY(mutex_);
  std::set<uint64_t> cancelled_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_SCRIPTED_QUERY_ENGINE_H_
