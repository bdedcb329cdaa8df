// SPDX-License-Identifier: Apache-2.0
// What every ActivationLink must do, whatever carries it. A transport's test file describes itself
// with a LinkTransport and instantiates LinkConformanceTest with it.
#ifndef CCOE_TESTS_RUNTIME_EXCHANGE_LINK_CONFORMANCE_H_
#define CCOE_TESTS_RUNTIME_EXCHANGE_LINK_CONFORMANCE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/exchange/envelope.h"
#include "tests/runtime/exchange/swap_recorder.h"
#include "tests/testing/fake_swap_handler.h"

namespace ccoe::exchange {

// What a test wants of its link.
struct LinkSetup {
  int64_t hidden_size = 4;
  SwapCredit credit = {int64_t{128} << 20, 1024};   // of the worker's
  SwapCredit backlog = {int64_t{256} << 20, 4096};  // may wait beside
  EnvelopeLimits limits;
};

// One expert worker and links to it. Destroying it ends the worker; where
// LinkTransport::worker_can_die, links may outlive it.
class LinkWorker {
 public:
  virtual ~LinkWorker() = default;
  virtual std::unique_ptr<ActivationLink> Connect(const LinkSetup& setup) = 0;
};

struct LinkTransport {
  std::string name;
  std::function<std::unique_ptr<LinkWorker>(SwapHandler* handler, const LinkSetup& setup)> start;
  bool worker_can_die = true;         // while links live; not in one process without a wire
  bool has_wire = true;               // what has no credit waits at the sender
  kernels::Device* device = nullptr;  // whose rows its links take; null: of host memory only
  bool handler_on_device = true;      // they get to the handler there
};

class LinkConformanceTest : public ::testing::TestWithParam<LinkTransport> {
 protected:
  // Makes handler, worker and link; call first.
  void Start(const LinkSetup& setup = {});
  std::unique_ptr<ActivationLink> Connect() { return worker_->Connect(setup_); }

  // One sequence of `rows` rows, all of them coming back.
  SwapHeader Header(uint64_t swap, int64_t rows = 1, uint64_t sequence = 1) const {
    return MakeHeader(swap, {{sequence, 0, rows, ReturnRows::kAll}}, setup_.hidden_size);
  }
  // Sends a swap with tagged rows.
  void Send(const SwapHeader& header, uint64_t sender = 1) {
    recorder_.Send(*link_, header, TaggedRows(header, sender));
  }
  // The rows that came back with a swap.
  std::vector<float> Rows(uint64_t swap) {
    const absl::StatusOr<SwapResult> answer = recorder_.Await(swap);
    EXPECT_TRUE(answer.ok()) << answer.status();
    return answer.ok() ? answer->rows : std::vector<float>();
  }
  // Expects the answer to `header` as FakeSwapHandler computes it, bit for bit.
  void ExpectAnswer(const SwapHeader& header, uint64_t sender = 1);

  LinkSetup setup_;
  std::unique_ptr<testing::FakeSwapHandler> handler_;
  std::unique_ptr<LinkWorker> worker_;
  std::unique_ptr<ActivationLink> link_;
  SwapRecorder recorder_;
};

}  // namespace ccoe::exchange

#endif  // CCOE_TESTS_RUNTIME_EXCHANGE_LINK_CONFORMANCE_H_
