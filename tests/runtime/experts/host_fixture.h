// SPDX-License-Identifier: Apache-2.0
// A host and a peer of it, for its tests.
#ifndef CCOE_TESTS_RUNTIME_EXPERTS_HOST_FIXTURE_H_
#define CCOE_TESTS_RUNTIME_EXPERTS_HOST_FIXTURE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "runtime/exchange/swap_result.h"
#include "runtime/experts/unit_host.h"
#include "tests/runtime/experts/swaps.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::experts {

class HostTest : public ::testing::Test {
 protected:
  void StartHost(const model::ModelSpec& spec, UnitHostOptions options,
                 std::unique_ptr<kernels::Ops> ops = nullptr) {
    options.clock = &clock_;
    if (ops == nullptr) ops = kernels::MakeCpuOps(&team_);
    ASSERT_OK_AND_ASSIGN(host_, UnitHost::Create(spec, std::move(ops), options));
    peer_ = host_->AddPeer();
  }

  // Before what a test gave it, such as its device.
  void TearDown() override { host_.reset(); }

  void Send(uint64_t peer, const exchange::SwapHeader& header, std::vector<float> rows) {
    host_->HandleEnvelope(peer, EnvelopeOf(header, std::move(rows)), answers_.Keep());
  }
  absl::StatusOr<exchange::SwapResult> Swap(uint64_t peer, const exchange::SwapHeader& header,
                                            std::vector<float> rows) {
    Send(peer, header, std::move(rows));
    return answers_.Await(header.id);
  }
  // The rows of an answer; of a layer swap's first sequence that was left out its verdict.
  absl::StatusOr<std::vector<float>> Rows(uint64_t id) {
    absl::StatusOr<exchange::SwapResult> result = answers_.Await(id);
    if (!result.ok()) return result.status();
    for (const absl::Status& verdict : result->verdicts) {
      if (!verdict.ok()) return verdict;
    }
    return result->rows;
  }
  exchange::SwapReason Reason(uint64_t id) { return exchange::ReasonOf(Rows(id).status()); }

  // Keeps the lane busy, behind the pass of `header`, until the returned notification is notified:
  // what comes meanwhile waits.
  std::shared_ptr<absl::Notification> Block(const exchange::SwapHeader& header,
                                            std::vector<float> rows) {
    auto go = std::make_shared<absl::Notification>();
    auto busy = std::make_shared<absl::Notification>();
    host_->HandleEnvelope(peer_, EnvelopeOf(header, std::move(rows)),
                          [go, busy](uint64_t, absl::StatusOr<exchange::SwapResult>) {
                            busy->Notify();
                            go->WaitForNotification();
                          });
    EXPECT_TRUE(busy->WaitForNotificationWithTimeout(kTestPatience));
    return go;
  }

  ThreadTeam team_{1};
  testing::FakeClock clock_;
  AnswerBook answers_;
  std::unique_ptr<UnitHost> host_;
  uint64_t peer_ = 0;
  uint64_t last_id_ = 0;
};

}  // namespace ccoe::experts

#endif  // CCOE_TESTS_RUNTIME_EXPERTS_HOST_FIXTURE_H_
