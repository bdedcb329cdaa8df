// Links whose rows go beside the stream: who agrees to it, and what a broken carrier does.
#include "runtime/exchange/row_carrier.h"

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "runtime/exchange/grpc/grpc_link.h"
#include "services/expert/exchange_service.h"
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
                                                      absl::Time deadline) override {
    auto carrier = pipes_.Connect(id, opener, deadline);
    if (!carrier.ok()) return carrier.status();
    return std::make_unique<Watched>(this, *std::move(carrier));
  }

  std::atomic<size_t> bytes = 0;
  std::atomic<size_t> device_bytes = 0;  // sent from the device, and received there
  std::atomic<bool> broken = false;

 private:
  class Watched final : public RowCarrier {
   public:
    Watched(WatchedCarriers* owner, std::unique_ptr<RowCarrier> carrier)
        : owner_(owner), carrier_(std::move(carrier)) {}
    absl::Status Send(absl::string_view bytes) override {
      if (owner_->broken) return absl::UnavailableError("the wire is cut");
      owner_->bytes += bytes.size();
      return carrier_->Send(bytes);
    }
    absl::Status Receive(std::string& bytes) override { return carrier_->Receive(bytes); }
    absl::Status SendRows(const RowBlock& rows) override {
      if (owner_->broken) return absl::UnavailableError("the wire is cut");
      owner_->device_bytes += rows.bytes();
      return carrier_->SendRows(rows);
    }
    absl::Status ReceiveRows(const RowMemory::Fresh& rows) override {
      owner_->device_bytes += rows.block.bytes();
      return carrier_->ReceiveRows(rows);
    }
    void Abort() override { carrier_->Abort(); }

   private:
    WatchedCarriers* const owner_;
    const std::unique_ptr<RowCarrier> carrier_;
  };

  const std::string version_;
  PipeCarriers pipes_;
};

class RowCarrierTest : public ::testing::Test {
 protected:
  void Serve(RowCarrierFactory* carriers) {
    services::ExchangeServiceOptions options;
    options.carriers = carriers;
    service_.emplace(&handler_, options);
    server_.emplace(&*service_);
  }
  absl::StatusOr<std::unique_ptr<ActivationLink>> Open(RowCarrierFactory* carriers, bool require) {
    GrpcLinkOptions options;
    options.hidden_size = 4;
    options.carriers = carriers;
    options.require_carrier = require;
    return OpenGrpcLink(server_->TcpChannel(), options);
  }
  static StepHeader Header(uint64_t step) {
    return MakeHeader(step, {{step, 0, 2, ReturnRows::kAll}}, 4);
  }
  void ExpectAnswer(ActivationLink& link, uint64_t step) {
    recorder_.Send(link, Header(step), TaggedRows(Header(step), 1));
    const absl::StatusOr<SwapResult> answer = recorder_.Await(step);
    ASSERT_OK(answer.status());
    EXPECT_EQ(answer->rows,
              FakeSwapHandler::Negated(Header(step), TaggedRows(Header(step), 1)).rows);
  }

  WatchedCarriers carriers_;  // outlives the links
  FakeSwapHandler handler_{4};
  std::optional<services::ExchangeService> service_;
  std::optional<ExchangeServer> server_;
  SwapRecorder recorder_;
};

TEST_F(RowCarrierTest, RowsOfBothWaysGoBesideTheStream) {
  Serve(&carriers_);
  ASSERT_OK_AND_ASSIGN(const auto link, Open(&carriers_, /*require=*/true));
  ExpectAnswer(*link, 1);
  EXPECT_EQ(carriers_.bytes, 2 * 2 * 4 * sizeof(float));
}

TEST_F(RowCarrierTest, RowsOfADeviceGoToTheDeviceOrWhereTheHandlerReadsThem) {
  testing::TaggedDevice device;
  for (const bool handler_on_device : {true, false}) {
    ASSERT_OK_AND_ASSIGN(auto memory, RowMemory::Create(&device, 1 << 20));
    WatchedCarriers carriers("pipe 1", std::move(memory));
    FakeSwapHandler handler(4, handler_on_device ? &device : nullptr);
    services::ExchangeServiceOptions service_options;
    service_options.carriers = &carriers;
    services::ExchangeService service(&handler, service_options);
    ExchangeServer server(&service);
    GrpcLinkOptions options;
    options.hidden_size = 4;
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

TEST_F(RowCarrierTest, AWorkerWithoutACarrierGetsThemInMessages) {
  Serve(nullptr);
  ASSERT_OK_AND_ASSIGN(const auto link, Open(&carriers_, /*require=*/false));
  ExpectAnswer(*link, 1);
  EXPECT_EQ(carriers_.bytes, 0u);
  EXPECT_THAT(Open(&carriers_, /*require=*/true).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("rows in messages only")));
}

TEST_F(RowCarrierTest, AnotherVersionIsRefusedAndNamed) {
  WatchedCarriers other("pipe 2");
  Serve(&other);
  ASSERT_OK_AND_ASSIGN(const auto link, Open(&carriers_, /*require=*/false));
  ExpectAnswer(*link, 1);
  EXPECT_THAT(Open(&carriers_, /*require=*/true).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("this worker has pipe 2, the peer pipe 1")));
}

TEST_F(RowCarrierTest, ALinkWithoutACarrierIsServedByAWorkerThatHasOne) {
  Serve(&carriers_);
  ASSERT_OK_AND_ASSIGN(const auto link, Open(nullptr, /*require=*/false));
  ExpectAnswer(*link, 1);
  EXPECT_EQ(carriers_.bytes, 0u);
}

TEST_F(RowCarrierTest, ABrokenCarrierEndsTheLinkAndAFreshOneWorks) {
  Serve(&carriers_);
  ASSERT_OK_AND_ASSIGN(const auto link, Open(&carriers_, /*require=*/true));
  carriers_.broken = true;
  recorder_.Send(*link, Header(1), TaggedRows(Header(1), 1));
  EXPECT_THAT(recorder_.Await(1), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(link->Health(), StatusIs(absl::StatusCode::kUnavailable));
  carriers_.broken = false;
  ASSERT_OK_AND_ASSIGN(const auto fresh, Open(&carriers_, /*require=*/true));
  ExpectAnswer(*fresh, 2);
}

}  // namespace
}  // namespace ccoe::exchange
