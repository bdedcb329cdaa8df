// SPDX-License-Identifier: Apache-2.0
// A router's view of the cluster, as a test says.
#ifndef CCOE_TESTS_TESTING_FAKE_CONTROL_STUB_H_
#define CCOE_TESTS_TESTING_FAKE_CONTROL_STUB_H_

#include <utility>

#include "services/common/stubs.h"

namespace ccoe::testing {

class FakeControlStub final : public services::ControlStub {
 public:
  explicit FakeControlStub(absl::StatusOr<v1::ClusterStatus> answer) : answer(std::move(answer)) {}

  absl::StatusOr<v1::ClusterStatus> GetStatus(const v1::GetStatusRequest&) override {
    return answer;
  }
  absl::StatusOr<v1::PlacementPlan> GetPlacement(const v1::GetPlacementRequest&) override {
    return absl::NotFoundError("no placement");
  }
  absl::StatusOr<v1::MoeStatistics> GetMoeStatistics(const v1::GetMoeStatisticsRequest&) override {
    return absl::UnimplementedError("a router counts nothing");
  }

  absl::StatusOr<v1::ClusterStatus> answer;
};

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_FAKE_CONTROL_STUB_H_
