// One open link against messages that no honest peer sends. The good path is the conformance
// suite's.
#include "services/expert/peer_link.h"

#include <limits>
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/expert/exchange_service.h"
#include "tests/runtime/exchange/grpc/exchange_server.h"
#include "tests/runtime/exchange/swap_recorder.h"
#include "tests/services/expert/exchange_client.h"
#include "tests/testing/fake_swap_handler.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::FakeSwapHandler;
using ::testing::HasSubstr;

constexpr int64_t kHidden = 4;
constexpr int kInvalidArgument = static_cast<int>(absl::StatusCode::kInvalidArgument);

class PeerLinkTest : public ::testing::Test {
 protected:
  PeerLinkTest() {
    ExchangeServiceOptions options;
    options.max_swaps_in_flight = 2;
    options.limits.max_rows = 16;
    service_ = std::make_unique<ExchangeService>(&handler_, options);
    server_ = std::make_unique<exchange::ExchangeServer>(service_.get());
    Reopen();
  }

  void Reopen() {
    client_ = std::make_unique<ExchangeClient>(server_->TcpChannel());
    client_->Send(ExchangeClient::GoodOpen(kHidden));
    EXPECT_TRUE(client_->Read().has_accepted());
  }

  // A swap is answered with an error and the link lives on.
  void ExpectSwapRefused(const v1::LinkMessage& swap, const char* message) {
    const size_t before = handler_.events().size();
    ASSERT_TRUE(client_->Send(swap));
    const v1::LinkReply reply = client_->Read();
    EXPECT_EQ(reply.swap().step_id(), swap.swap().header().step_id());
    EXPECT_EQ(reply.swap().code(), kInvalidArgument);
    EXPECT_THAT(reply.swap().message(), HasSubstr(message));
    EXPECT_EQ(handler_.events().size(), before);
  }

  // A message ends the link.
  void ExpectLinkEnded(const v1::LinkMessage& message, const char* why) {
    client_->Send(message);
    const grpc::Status end = client_->End();
    EXPECT_EQ(end.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(end.error_message(), HasSubstr(why));
    EXPECT_TRUE(handler_.AwaitPeers(0));
    Reopen();
  }

  FakeSwapHandler handler_{kHidden};
  std::unique_ptr<ExchangeService> service_;
  std::unique_ptr<exchange::ExchangeServer> server_;
  std::unique_ptr<ExchangeClient> client_;
};

TEST_F(PeerLinkTest, ComparesBytesWithTheHeader) {
  v1::LinkMessage swap = ExchangeClient::GoodSwap(1, kHidden);
  swap.mutable_swap()->set_rows(std::string(31, '\0'));
  ExpectSwapRefused(swap, "expected 32 bytes");
  swap = ExchangeClient::GoodSwap(2, kHidden);
  swap.mutable_swap()->clear_rows();
  ExpectSwapRefused(swap, "found 0");
  ASSERT_TRUE(client_->Send(ExchangeClient::GoodSwap(3, kHidden)));
  EXPECT_EQ(client_->Read().swap().code(), 0);
}

TEST_F(PeerLinkTest, RefusesHeadersThatMakeNoSense) {
  v1::LinkMessage swap = ExchangeClient::GoodSwap(1, kHidden);
  swap.mutable_swap()->mutable_header()->clear_expert();
  ExpectSwapRefused(swap, "expert");
  swap = ExchangeClient::GoodSwap(2, kHidden);
  swap.mutable_swap()->mutable_header()->mutable_sequences(0)->set_row_count(
      std::numeric_limits<int64_t>::max());
  ExpectSwapRefused(swap, "row_count");
  swap = ExchangeClient::GoodSwap(3, kHidden);
  swap.mutable_swap()->mutable_header()->mutable_sequences(0)->set_row_count(-2);
  ExpectSwapRefused(swap, "row_count");
  swap = ExchangeClient::GoodSwap(4, kHidden);
  swap.mutable_swap()->mutable_header()->set_hidden_size(std::numeric_limits<int64_t>::max());
  ExpectSwapRefused(swap, "hidden_size");
  swap = ExchangeClient::GoodSwap(5, kHidden);
  swap.mutable_swap()->mutable_header()->set_wire_dtype(static_cast<v1::WireDtype>(12));
  ExpectSwapRefused(swap, "wire_dtype");
  swap = ExchangeClient::GoodSwap(6, kHidden);
  swap.mutable_swap()->clear_header();
  swap.mutable_swap()->mutable_header()->set_step_id(6);
  ExpectSwapRefused(swap, "wire_dtype");
  swap = ExchangeClient::GoodSwap(7, kHidden);
  *swap.mutable_swap()->mutable_header()->add_sequences() = swap.swap().header().sequences(0);
  ExpectSwapRefused(swap, "twice");
}

TEST_F(PeerLinkTest, EndsTheLinkWhereTheProtocolIsBroken) {
  ExpectLinkEnded(v1::LinkMessage(), "neither swap, release nor heartbeat");
  v1::LinkMessage open;
  *open.mutable_open() = ExchangeClient::GoodOpen(kHidden);
  ExpectLinkEnded(open, "second OpenLink");
  ASSERT_TRUE(client_->Send(ExchangeClient::GoodSwap(5, kHidden)));
  EXPECT_EQ(client_->Read().swap().step_id(), 5);
  ExpectLinkEnded(ExchangeClient::GoodSwap(5, kHidden), "expected more than 5, found 5");
}

TEST_F(PeerLinkTest, TheFirstMessageMustBeOpenLink) {
  ExchangeClient client(server_->TcpChannel());
  client.Send(ExchangeClient::GoodSwap(1, kHidden));
  const grpc::Status end = client.End();
  EXPECT_EQ(end.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(end.error_message(), HasSubstr("expected OpenLink"));
}

TEST_F(PeerLinkTest, OneSwapTooManyIsAnsweredWithResourceExhausted) {
  handler_.Hold();
  for (uint64_t step = 1; step <= 3; ++step)
    ASSERT_TRUE(client_->Send(ExchangeClient::GoodSwap(step, kHidden)));
  const v1::LinkReply reply = client_->Read();
  EXPECT_EQ(reply.swap().step_id(), 3);
  EXPECT_EQ(reply.swap().code(), static_cast<int>(absl::StatusCode::kResourceExhausted));
  handler_.AnswerHeld();
  EXPECT_EQ(client_->Read().swap().step_id(), 1);
  EXPECT_EQ(client_->Read().swap().step_id(), 2);
}

TEST_F(PeerLinkTest, ReleasesReachTheHandlerInOrder) {
  ASSERT_TRUE(client_->Send(ExchangeClient::GoodSwap(1, kHidden)));
  v1::LinkMessage release;
  release.mutable_release()->set_sequence_id(44);
  ASSERT_TRUE(client_->Send(release));
  ASSERT_TRUE(handler_.AwaitEvents(2));
  EXPECT_TRUE(handler_.events()[1].release);
  EXPECT_EQ(handler_.events()[1].sequence_id, 44);
}

TEST_F(PeerLinkTest, HeartbeatsAreAnsweredWhateverIsBeingComputed) {
  handler_.Hold();
  ASSERT_TRUE(client_->Send(ExchangeClient::GoodSwap(1, kHidden)));
  v1::LinkMessage heartbeat;
  for (const uint64_t number : {1, 2, 9}) {
    heartbeat.mutable_heartbeat()->set_number(number);
    ASSERT_TRUE(client_->Send(heartbeat));
    EXPECT_EQ(client_->Read().heartbeat().number(), number);
  }
  handler_.AnswerHeld();
  EXPECT_EQ(client_->Read().swap().step_id(), 1);
  ExpectLinkEnded(heartbeat, "heartbeat: expected a number above 9, found 9");
}

TEST_F(PeerLinkTest, DispatchesThatMakeNoSenseAreRefused) {
  exchange::StepHeader header = exchange::MakeDispatch(1, {{0, 2}, {1}}, kHidden);
  auto message = [&header](uint64_t step) {
    header.step_id = step;
    v1::LinkMessage swap;
    exchange::ToWire(header, *swap.mutable_swap()->mutable_header());
    swap.mutable_swap()->set_rows(std::string(2 * kHidden * 4, '\0'));
    return swap;
  };
  v1::LinkMessage swap = message(1);
  swap.mutable_swap()->mutable_header()->mutable_ffn()->set_counts(
      1, std::numeric_limits<int32_t>::max());
  ExpectSwapRefused(swap, "dispatch row 1");
  swap = message(2);
  swap.mutable_swap()->mutable_header()->mutable_ffn()->clear_weights();
  ExpectSwapRefused(swap, "as many weights");
  swap = message(3);
  swap.mutable_swap()->mutable_header()->mutable_ffn()->set_layer(-1);
  ExpectSwapRefused(swap, "dispatch layer");
  swap = message(4);
  swap.mutable_swap()->mutable_header()->set_capture_layers(true);
  ExpectSwapRefused(swap, "capture_layers");
  swap = message(5);
  swap.mutable_swap()->set_rows("short");
  ExpectSwapRefused(swap, "expected 32 bytes");
  ASSERT_TRUE(client_->Send(message(6)));
  EXPECT_EQ(client_->Read().swap().rows().size(), 3 * kHidden * 4);
}

TEST_F(PeerLinkTest, APeerThatReadsNothingIsDroppedBeforeItsAnswersPileUp) {
  // Wrong swaps are answered without ever being in flight, so only the bound of the outgoing queue
  // stops this peer.
  v1::LinkMessage swap = ExchangeClient::GoodSwap(0, kHidden);
  swap.mutable_swap()->mutable_header()->mutable_expert()->set_name(std::string(1000, 'x'));
  swap.mutable_swap()->mutable_header()->mutable_expert()->set_version(-1);
  bool alive = true;
  for (uint64_t step = 1; alive && step < 1000000; ++step) {
    swap.mutable_swap()->mutable_header()->set_step_id(step);
    alive = client_->Send(swap);
  }
  EXPECT_FALSE(alive);
  EXPECT_TRUE(handler_.AwaitPeers(0));
}

}  // namespace
}  // namespace ccoe::services
