// SPDX-License-Identifier: Apache-2.0
// A router that answers as a test says.
#ifndef CCOE_TESTS_TESTING_FAKE_ROUTING_STUB_H_
#define CCOE_TESTS_TESTING_FAKE_ROUTING_STUB_H_

#include <functional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "services/common/stubs.h"

namespace ccoe::testing {

// Thread-safe.
class FakeRoutingStub final : public services::RoutingStub {
 public:
  void Answer(absl::StatusOr<v1::RouteResponse> answer) {
    absl::MutexLock lock(&mutex_);
    answer_ = std::move(answer);
  }

  absl::StatusOr<v1::RouteResponse> Route(const v1::RouteRequest& request) override {
    absl::MutexLock lock(&mutex_);
    requests_.push_back(request);
    return answer_;
  }

  absl::StatusOr<v1::ListExpertsResponse> ListExperts(const v1::ListExpertsRequest&) override {
    v1::ListExpertsResponse response;
    response.add_experts()->mutable_expert()->set_name("math");
    return response;
  }

  std::vector<v1::RouteRequest> requests() const {
    absl::MutexLock lock(&mutex_);
    return requests_;
  }

 private:
  mutable absl::Mutex mutex_;
  absl::StatusOr<v1::RouteResponse> answer_ ABSL_GUARDED_BY(mutex_) =
      absl::UnavailableError("no answer was set");
  std::vector<v1::RouteRequest> requests_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_FAKE_ROUTING_STUB_H_
