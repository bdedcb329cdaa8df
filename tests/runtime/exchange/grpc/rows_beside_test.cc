// SPDX-License-Identifier: Apache-2.0
// Links whose rows go beside the stream: who agrees to it, and what a broken carrier does.
#include "runtime/exchange/grpc/rows_beside.h"

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "runtime/exchange/grpc/exchange_service.h"
#include "runtime/exchange/grpc/grpc_link.h"
#include "runtime/exchange/row_carrier.h"
#include "tests/runtime/exchange/grpc/exchange_server.h"
#include "tests/runtime/exchange/swap_recorder.h"
#include "tests/testing/fake_swap_handler.h"
#include "tests/testing/pipe_carriers.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::exchange {
namespace {

using ::ccoe::testing::FakeSwapHandler;
using ::ccoe::testing::PipeCarriers;
using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

// Counts bytes, and can fail from some point on.
class WatchedCarriers final : public RowCarrierFactory {
 public:
  explicit WatchedCarriers(std::string version = "pipe 1",
                           std::shared_ptr<RowMemory> memory = nullptr)
      : version_(std::move(version)), pipes_(std::move(memory)) {}

  std::string Version() const override { return version_; }
  RowMemory* memory() const override { return pipes_.memory(); }
  absl::StatusOr<std::string> MakeId() override { return pipes_.MakeId(); }
  absl::StatusOr<std::unique_ptr<RowCarrier>> Connect(const std::string& id, bool opener,
                                                      absl::Duration timeout,
                                                      RowCarrier::SendNote send_note) override {
    auto carrier = pipes_.Connect(id, opener, timeout, std::move(send_note));
    if (!carrier.ok()) return carrier.status();
    return std::make_unique<Watched>(this, *std::move(carrier));
  }

  std::atomic<size_t> bytes = 0;         // sent from host memory
  std::atomic<size_t> device_bytes = 0;  // sent from the device, and received there
  std::atomic<bool> broken = false;
  std::atomic<bool> slow = false;  // what is received waits for Hurry

  // Begins what waits.
  void Hurry() {
    slow = false;
    std::vector<absl::AnyInvocable<void()>> waiting;
    {
      absl::MutexLock lock(&mutex_);
      waiting.swap(waiting_);
    }
    for (auto& each : waiting) each();
  }

 private:
  class Watched final : public RowCarrier {
   public:
    Watched(WatchedCarriers* owner, std::unique_ptr<RowCarrier> carrier)
        : owner_(owner), carrier_(std::move(carrier)) {}
    void Send(CarriedRows rows, Done done) override {
      if (owner_->broken) return done(absl::UnavailableError("the wire is cut"));
      (rows.on_device() ? owner_->device_bytes : owner_->bytes) += rows.size();
      carrier_->Send(std::move(rows), std::move(done));
    }
    void Receive(CarriedRows room, Done done) override {
      if (room.on_device()) owner_->device_bytes += room.size();
      if (!owner_->slow) return carrier_->Receive(std::move(room), std::move(done));
      absl::MutexLock lock(&owner_->mutex_);
      owner_->waiting_.push_back([this, room = std::move(room), done = std::move(done)]() mutable {
        carrier_->Receive(std::move(room), std::move(done));
      });
    }
    void Take(const Note& note) override { carrier_->Take(note); }
    void Abort() override { carrier_->Abort(); }

   private:
    WatchedCarriers* const owner_;
    const std::unique_ptr<RowCarrier> carrier_;
  };

  absl::Mutex mutex_;
  std::vector<absl::AnyInvocable<void()>> waiting_ ABSL_GUARDED_BY(mutex_);
  const std::string version_;
  PipeCarriers pipes_;
};

class RowsBesideTest : public ::testing::Test {
 protected:
  void Serve(RowCarrierFactory* carriers) {
    ExchangeServiceOptions options;
    options.link.carriers = carriers;
    service_.emplace(&handler_, options);
    server_.emplace(&*service_);
  }
  absl::StatusOr<std::unique_ptr<ActivationLink>> Open(RowCarrierFactory* carriers, bool require) {
    GrpcLinkOptions options;
    options.identity.hidden_size = 4;
    options.carriers = carriers;
    options.require_carrier = require;
    return OpenGrpcLink(server_->TcpChannel(), options);
  }
  static SwapHeader Header(uint64_t swap) {
    return MakeHeader(swap, {{swap, 0, 2, ReturnRows::kAll}}, 4);
  }
  void ExpectAnswer(ActivationLink& link, uint64_t swap) {
    recorder_.Send(link, Header(swap), TaggedRows(Header(swap), 1));
    const absl::StatusOr<SwapResult> answer = recorder_.Await(swap);
    ASSERT_OK(answer.status());
    EXPECT_EQ(answer->rows,
              FakeSwapHandler::Negated(Header(swap), TaggedRows(Header(swap), 1)).rows);
  }

  WatchedCarriers carriers_;  // outlives the links
  FakeSwapHandler handler_{4};
  std::optional<ExchangeService> service_;
  std::optional<ExchangeServer> server_;
  SwapRecorder recorder_;
};

TEST_F(RowsBesideTest, RowsOfBothWaysGoBesideTheStream) {
  Serve(&carriers_);
  ASSERT_OK_AND_ASSIGN(const auto link, Open(&carriers_, /*require=*/true));
  ExpectAnswer(*link, 1);
  EXPECT_EQ(carriers_.bytes, 2 * 2 * 4 * sizeof(float));
}

TEST_F(RowsBesideTest, RowsOfADeviceGoToTheDeviceOrWhereTheHandlerReadsThem) {
  testing::TaggedDevice device;
  for (const bool handler_on_device : {true, false}) {
    ASSERT_OK_AND_ASSIGN(auto memory, RowMemory::Create(&device, 1 << 20));
    WatchedCarriers carriers("pipe 1", std::move(memory));
    FakeSwapHandler handler(4, handler_on_device ? &device : nullptr);
    ExchangeServiceOptions service_options;
    service_options.link.carriers = &carriers;
    ExchangeService service(&handler, service_options);
    ExchangeServer server(&service);
    GrpcLinkOptions options;
    options.identity.hidden_size = 4;
    options.carriers = &carriers;
    ASSERT_OK_AND_ASSIGN(auto link, OpenGrpcLink(server.TcpChannel(), options));
    ExpectAnswer(*link, handler_on_device ? 1 : 2);
    // Two rows there and two back, each sent once and received once.
    const size_t rows = 2 * 4 * sizeof(float);
    EXPECT_EQ(carriers.device_bytes, handler_on_device ? 4 * rows : 2 * rows);
    EXPECT_EQ(carriers.bytes, handler_on_device ? 0 : rows);
    service.CloseLinks();
  }
}

TEST_F(RowsBesideTest, AWorkerWithoutACarrierGetsThemInMessages) {
  Serve(nullptr);
  ASSERT_OK_AND_ASSIGN(const auto link, Open(&carriers_, /*require=*/false));
  ExpectAnswer(*link, 1);
  EXPECT_EQ(carriers_.bytes, 0u);
  EXPECT_THAT(Open(&carriers_, /*require=*/true).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("rows in messages only")));
}

TEST_F(RowsBesideTest, AnotherVersionIsRefusedAndNamed) {
  WatchedCarriers other("pipe 2");
  Serve(&other);
  ASSERT_OK_AND_ASSIGN(const auto link, Open(&carriers_, /*require=*/false));
  ExpectAnswer(*link, 1);
  EXPECT_THAT(Open(&carriers_, /*require=*/true).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("this worker has pipe 2, the peer pipe 1")));
}

TEST_F(RowsBesideTest, ALinkWithoutACarrierIsServedByAWorkerThatHasOne) {
  Serve(&carriers_);
  ASSERT_OK_AND_ASSIGN(const auto link, Open(nullptr, /*require=*/false));
  ExpectAnswer(*link, 1);
  EXPECT_EQ(carriers_.bytes, 0u);
}

TEST_F(RowsBesideTest, TheRowsOfAnEnvelopeFollowSwapAfterSwap) {
  Serve(&carriers_);
  ASSERT_OK_AND_ASSIGN(const auto link, Open(&carriers_, /*require=*/true));
  Envelope envelope;
  const RowBlock block(std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8});
  Add(envelope, MakeHeader(1, {{1, 0, 1, ReturnRows::kAll}}, 4), {block, {1}});
  Add(envelope, MakeHeader(2, {{2, 0, 2, ReturnRows::kNone}}, 4), {block, {}});
  Add(envelope, MakeHeader(3, {{3, 0, 1, ReturnRows::kLast}}, 4), {block, {0}});
  link->Send(std::move(envelope), recorder_.Keep());
  EXPECT_THAT(recorder_.Await(1)->rows, ::testing::ElementsAre(-5, -6, -7, -8));
  EXPECT_TRUE(recorder_.Await(2)->rows.empty());
  EXPECT_THAT(recorder_.Await(3)->rows, ::testing::ElementsAre(-1, -2, -3, -4));
  EXPECT_EQ(carriers_.bytes, (4 + 2) * 4 * sizeof(float));
}

TEST_F(RowsBesideTest, WhileRowsAreOnTheirWayTheStreamGoesOnAndKeepsItsOrder) {
  Serve(&carriers_);
  ASSERT_OK_AND_ASSIGN(const auto link, Open(&carriers_, /*require=*/true));
  carriers_.slow = true;
  recorder_.Send(*link, Header(1), TaggedRows(Header(1), 1));
  link->ReleaseSequence(44);
  // Several times what silence is allowed: heartbeats are answered, the link lives.
  const absl::Time late = absl::Now() + absl::Seconds(3);
  while (link->healthy() && absl::Now() < late) absl::SleepFor(absl::Milliseconds(20));
  EXPECT_OK(link->Health());
  EXPECT_TRUE(handler_.events().empty());
  EXPECT_THAT(link->WhereIs(1), HasSubstr("sent, not taken in"));
  carriers_.Hurry();
  EXPECT_OK(recorder_.Await(1).status());
  ASSERT_TRUE(handler_.AwaitEvents(2));
  EXPECT_EQ(handler_.events()[0].swap_id, 1);
  EXPECT_TRUE(handler_.events()[1].release);
}

TEST_F(RowsBesideTest, ABrokenCarrierEndsTheLinkAndAFreshOneWorks) {
  Serve(&carriers_);
  ASSERT_OK_AND_ASSIGN(const auto link, Open(&carriers_, /*require=*/true));
  carriers_.broken = true;
  recorder_.Send(*link, Header(1), TaggedRows(Header(1), 1));
  EXPECT_THAT(recorder_.Await(1), FailsWith(SwapReason::kLinkBroken));
  EXPECT_THAT(link->Health(), FailsWith(SwapReason::kLinkBroken));
  carriers_.broken = false;
  ASSERT_OK_AND_ASSIGN(const auto fresh, Open(&carriers_, /*require=*/true));
  ExpectAnswer(*fresh, 2);
}

}  // namespace
}  // namespace ccoe::exchange
