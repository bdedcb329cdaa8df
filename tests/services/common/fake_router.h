// SPDX-License-Identifier: Apache-2.0
// The router's end of registrations, as a test wants it.
#ifndef CCOE_TESTS_SERVICES_COMMON_FAKE_ROUTER_H_
#define CCOE_TESTS_SERVICES_COMMON_FAKE_ROUTER_H_

#include <grpcpp/grpcpp.h>

#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "ccoe/v1/control.grpc.pb.h"

namespace ccoe::services {

// Keeps what workers report, answers every report with a directive that counts up, or refuses.
class FakeRouter final : public v1::Control::Service {
 public:
  grpc::Status Register(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<v1::Directive, v1::WorkerReport>* stream) override {
    v1::WorkerReport report;
    while (stream->Read(&report)) {
      v1::Directive directive;
      {
        absl::MutexLock lock(&mutex_);
        if (refuse_) return {grpc::FAILED_PRECONDITION, "protocol version: expected 2, found 1"};
        reports_.push_back(report);
        directive.set_epoch(static_cast<int64_t>(reports_.size()));
        directive.set_lease_seconds(lease_seconds_);
      }
      stream->Write(directive);
    }
    absl::MutexLock lock(&mutex_);
    ++ended_;
    return grpc::Status::OK;
  }

  // Waits for so many reports; false after a long time.
  bool AwaitReports(size_t count) {
    absl::MutexLock lock(&mutex_);
    const auto enough = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return reports_.size() >= count;
    };
    return mutex_.AwaitWithTimeout(absl::Condition(&enough), absl::Minutes(1));
  }
  bool AwaitEnded(int count) {
    absl::MutexLock lock(&mutex_);
    const auto enough = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return ended_ >= count; };
    return mutex_.AwaitWithTimeout(absl::Condition(&enough), absl::Minutes(1));
  }
  v1::WorkerReport report(size_t i) {
    absl::MutexLock lock(&mutex_);
    return reports_[i];
  }
  size_t reports() {
    absl::MutexLock lock(&mutex_);
    return reports_.size();
  }
  void Refuse() {
    absl::MutexLock lock(&mutex_);
    refuse_ = true;
  }
  void SetLease(double seconds) {
    absl::MutexLock lock(&mutex_);
    lease_seconds_ = seconds;
  }

 private:
  absl::Mutex mutex_;
  std::vector<v1::WorkerReport> reports_;
  int ended_ = 0;
  bool refuse_ = false;
  double lease_seconds_ = 3600;
};

}  // namespace ccoe::services

#endif  // CCOE_TESTS_SERVICES_COMMON_FAKE_ROUTER_H_
