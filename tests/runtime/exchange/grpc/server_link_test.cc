// SPDX-License-Identifier: Apache-2.0
// One open link against messages that no honest peer sends. The good path is the conformance
// suite's.
#include "runtime/exchange/grpc/server_link.h"

#include <limits>
#include <memory>
#include <random>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/exchange/grpc/exchange_service.h"
#include "runtime/exchange/grpc/grpc_link.h"
#include "tests/runtime/exchange/grpc/exchange_client.h"
#include "tests/runtime/exchange/grpc/exchange_server.h"
#include "tests/runtime/exchange/swap_recorder.h"
#include "tests/testing/fake_swap_handler.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::exchange {
namespace {

using ::ccoe::testing::FakeSwapHandler;
using ::testing::HasSubstr;

constexpr int64_t kHidden = 4;
constexpr size_t kSwapBytes = 2 * kHidden * sizeof(float);  // of a GoodSwap, each way

v1::SwapRequest& First(v1::LinkMessage& message) {
  return *message.mutable_envelope()->mutable_swaps(0);
}

class ServerLinkTest : public ::testing::Test {
 protected:
  ServerLinkTest() {
    ExchangeServiceOptions options;
    options.link.grant.credit = {8 * kSwapBytes, 3};
    options.link.grant.limits.max_rows = 9;
    service_ = std::make_unique<ExchangeService>(&handler_, options);
    server_ = std::make_unique<ExchangeServer>(service_.get());
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
    EXPECT_EQ(reply.answer().swap_id(), swap.envelope().swaps(0).id());
    EXPECT_EQ(reply.answer().reason(), v1::SWAP_REASON_INVALID);
    EXPECT_THAT(reply.answer().message(), HasSubstr(message));
    EXPECT_EQ(handler_.events().size(), before);
  }

  // A message ends the link, and no other.
  void ExpectLinkEnded(const v1::LinkMessage& message, const char* why,
                       grpc::StatusCode code = grpc::StatusCode::INVALID_ARGUMENT) {
    ExchangeClient other(server_->TcpChannel());
    other.Send(ExchangeClient::GoodOpen(kHidden));
    EXPECT_TRUE(other.Read().has_accepted());
    client_->Send(message);
    const grpc::Status end = client_->End();
    EXPECT_EQ(end.error_code(), code);
    EXPECT_THAT(end.error_message(), HasSubstr(why));
    EXPECT_TRUE(handler_.AwaitPeers(1));
    v1::LinkMessage heartbeat;
    heartbeat.mutable_heartbeat()->set_number(1);
    other.Send(heartbeat);
    EXPECT_EQ(other.Read().heartbeat().number(), 1);
    Reopen();
  }

  FakeSwapHandler handler_{kHidden};
  std::unique_ptr<ExchangeService> service_;
  std::unique_ptr<ExchangeServer> server_;
  std::unique_ptr<ExchangeClient> client_;
};

TEST_F(ServerLinkTest, RowsOfAnotherSizeThanTheirSwapSaysEndTheLink) {
  v1::LinkMessage swap = ExchangeClient::GoodSwap(1, kHidden);
  First(swap).set_rows(std::string(31, '\0'));
  ExpectLinkEnded(swap, "swap 1: rows: expected 32 bytes (2 rows of 4 f32), found 31");
  First(swap).clear_rows();
  ExpectLinkEnded(swap, "found 0");
  ASSERT_TRUE(client_->Send(ExchangeClient::GoodSwap(3, kHidden)));
  EXPECT_EQ(client_->Read().answer().rows().size(), 32);
}

TEST_F(ServerLinkTest, RefusesHeadersThatMakeNoSense) {
  v1::LinkMessage swap = ExchangeClient::GoodSwap(1, kHidden);
  First(swap).mutable_layer()->clear_expert();
  ExpectSwapRefused(swap, "swap 1: expert");
  swap = ExchangeClient::GoodSwap(2, kHidden);
  First(swap).mutable_layer()->mutable_sequences(0)->set_row_count(
      std::numeric_limits<int64_t>::max());
  ExpectSwapRefused(swap, "row_count");
  swap = ExchangeClient::GoodSwap(3, kHidden);
  First(swap).mutable_layer()->mutable_sequences(0)->set_row_count(-2);
  ExpectSwapRefused(swap, "row_count");
  swap = ExchangeClient::GoodSwap(4, kHidden);
  swap.mutable_envelope()->set_hidden_size(std::numeric_limits<int64_t>::max());
  ExpectSwapRefused(swap, "hidden_size");
  swap = ExchangeClient::GoodSwap(5, kHidden);
  First(swap).mutable_layer()->mutable_sequences(0)->set_return_rows(v1::RETURN_ROWS_UNSPECIFIED);
  ExpectSwapRefused(swap, "return_rows");
  swap = ExchangeClient::GoodSwap(6, kHidden);
  First(swap).clear_work();
  ExpectSwapRefused(swap, "work: expected layer or ffn");
  swap = ExchangeClient::GoodSwap(7, kHidden);
  *First(swap).mutable_layer()->add_sequences() = First(swap).layer().sequences(0);
  ExpectSwapRefused(swap, "twice");
}

TEST_F(ServerLinkTest, OneWrongSwapOfAnEnvelopeLeavesTheOthersBe) {
  v1::LinkMessage message =
      ExchangeClient::Message({MakeHeader(1, {{1, 0, 1, ReturnRows::kAll}}, kHidden),
                               MakeHeader(2, {{2, 0, 1, ReturnRows::kAll}}, kHidden)});
  First(message).mutable_layer()->clear_expert();
  ASSERT_TRUE(client_->Send(message));
  for (int i = 0; i < 2; ++i) {
    const v1::LinkReply reply = client_->Read();
    EXPECT_EQ(reply.answer().reason(),
              reply.answer().swap_id() == 1 ? v1::SWAP_REASON_INVALID : v1::SWAP_REASON_NONE);
  }
}

TEST_F(ServerLinkTest, EndsTheLinkWhereTheProtocolIsBroken) {
  ExpectLinkEnded(v1::LinkMessage(), "neither envelope, release, cancel nor heartbeat");
  v1::LinkMessage message;
  *message.mutable_open() = ExchangeClient::GoodOpen(kHidden);
  ExpectLinkEnded(message, "second OpenLink");
  ASSERT_TRUE(client_->Send(ExchangeClient::GoodSwap(5, kHidden)));
  EXPECT_EQ(client_->Read().answer().swap_id(), 5);
  ExpectLinkEnded(ExchangeClient::GoodSwap(5, kHidden), "expected more than 5, found 5");
  message = ExchangeClient::GoodSwap(1, kHidden);
  message.mutable_envelope()->clear_swaps();
  ExpectLinkEnded(message, "swaps of step 5: expected 1 to 3, found 0");
  message = ExchangeClient::GoodSwap(1, kHidden);
  message.mutable_envelope()->set_wire_dtype(static_cast<v1::WireDtype>(12));
  ExpectLinkEnded(message, "wire_dtype");
  message.Clear();
  for (uint64_t id = 1; id <= 4; ++id) message.mutable_cancel()->add_swap_ids(id);
  ExpectLinkEnded(message, "cancel: expected at most 3 swaps, found 4");
  message = ExchangeClient::Message({MakeHeader(1, {{1, 0, 5, ReturnRows::kNone}}, kHidden),
                                     MakeHeader(2, {{2, 0, 5, ReturnRows::kNone}}, kHidden)});
  ExpectLinkEnded(message, "at most 9 rows");
}

TEST_F(ServerLinkTest, TheFirstMessageMustBeOpenLink) {
  ExchangeClient client(server_->TcpChannel());
  client.Send(ExchangeClient::GoodSwap(1, kHidden));
  const grpc::Status end = client.End();
  EXPECT_EQ(end.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(end.error_message(), HasSubstr("expected OpenLink"));
}

TEST_F(ServerLinkTest, OneSwapMoreThanTheCreditsEndsTheLink) {
  handler_.Hold();
  for (uint64_t swap = 1; swap <= 3; ++swap)
    ASSERT_TRUE(client_->Send(ExchangeClient::GoodSwap(swap, kHidden)));
  ASSERT_TRUE(handler_.AwaitEvents(3));
  ExpectLinkEnded(ExchangeClient::GoodSwap(4, kHidden),
                  "more than the credits of this link: with step 5 4 swaps of 256 bytes",
                  grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(ServerLinkTest, OneByteMoreThanTheCreditsEndsTheLink) {
  handler_.Hold();
  const SwapHeader large = MakeHeader(1, {{1, 0, 8, ReturnRows::kAll}}, kHidden);
  ASSERT_TRUE(client_->Send(ExchangeClient::Message({large})));
  ASSERT_TRUE(handler_.AwaitEvents(1));
  ExpectLinkEnded(ExchangeClient::Message({MakeHeader(2, {{2, 0, 1, ReturnRows::kNone}}, kHidden)}),
                  "2 swaps of 272 bytes are outstanding, at most 3 and 256",
                  grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(ServerLinkTest, CreditsComeBackWithAnswers) {
  for (uint64_t swap = 1; swap <= 20; ++swap) {
    ASSERT_TRUE(client_->Send(ExchangeClient::GoodSwap(swap, kHidden)));
    EXPECT_EQ(client_->Read().answer().swap_id(), swap);
  }
}

TEST_F(ServerLinkTest, ReleasesAndCancelsReachTheHandlerInOrder) {
  handler_.Hold();
  ASSERT_TRUE(client_->Send(ExchangeClient::GoodSwap(1, kHidden)));
  v1::LinkMessage message;
  message.mutable_release()->set_sequence_id(44);
  ASSERT_TRUE(client_->Send(message));
  message.mutable_cancel()->add_swap_ids(1);
  ASSERT_TRUE(client_->Send(message));
  ASSERT_TRUE(handler_.AwaitEvents(3));
  EXPECT_TRUE(handler_.events()[1].release);
  EXPECT_EQ(handler_.events()[1].sequence_id, 44);
  EXPECT_TRUE(handler_.events()[2].cancel);
  EXPECT_EQ(client_->Read().answer().reason(), v1::SWAP_REASON_CANCELLED);
}

TEST_F(ServerLinkTest, HeartbeatsAreAnsweredWhateverIsBeingComputedAndSayHowFarItIs) {
  handler_.Hold();
  ASSERT_TRUE(client_->Send(ExchangeClient::GoodSwap(7, kHidden)));
  ASSERT_TRUE(handler_.AwaitEvents(1));
  handler_.EndPass();
  v1::LinkMessage heartbeat;
  for (const uint64_t number : {1, 2, 9}) {
    heartbeat.mutable_heartbeat()->set_number(number);
    ASSERT_TRUE(client_->Send(heartbeat));
    const v1::HeartbeatReply reply = client_->Read().heartbeat();
    EXPECT_EQ(reply.number(), number);
    EXPECT_EQ(reply.passes(), 1);
    EXPECT_EQ(reply.computing(), "math@1");
    EXPECT_EQ(reply.since_nanos(), 5'000'000);
    EXPECT_EQ(reply.last_swap_id(), 7);
  }
  handler_.AnswerHeld();
  EXPECT_EQ(client_->Read().answer().swap_id(), 7);
  ExpectLinkEnded(heartbeat, "heartbeat: expected a number above 9, found 9");
}

TEST_F(ServerLinkTest, DispatchesThatMakeNoSenseAreRefused) {
  auto message = [](uint64_t id) {
    return ExchangeClient::Message({MakeDispatch(id, {{0, 2}, {1}}, kHidden)});
  };
  v1::LinkMessage swap = message(1);
  First(swap).mutable_ffn()->set_counts(1, std::numeric_limits<int32_t>::max());
  ExpectSwapRefused(swap, "dispatch row 1");
  swap = message(2);
  First(swap).mutable_ffn()->clear_weights();
  ExpectSwapRefused(swap, "as many weights");
  swap = message(3);
  First(swap).mutable_ffn()->set_layer(-1);
  ExpectSwapRefused(swap, "dispatch layer");
  swap = message(4);
  First(swap).set_rows("short");
  ExpectLinkEnded(swap, "expected 32 bytes");
  ASSERT_TRUE(client_->Send(message(6)));
  EXPECT_EQ(client_->Read().answer().rows().size(), 3 * kHidden * 4);
}

TEST_F(ServerLinkTest, APeerThatReadsNothingIsDroppedBeforeItsAnswersPileUp) {
  // Wrong swaps are answered without ever reaching the handler: the credits stop this peer.
  v1::LinkMessage swap = ExchangeClient::GoodSwap(1, kHidden);
  First(swap).mutable_layer()->mutable_expert()->set_name(std::string(1000, 'x'));
  First(swap).mutable_layer()->mutable_expert()->set_version(-1);
  bool alive = true;
  for (uint64_t id = 1; alive && id < 1000000; ++id) {
    First(swap).set_id(id);
    alive = client_->Send(swap);
  }
  EXPECT_FALSE(alive);
  EXPECT_TRUE(handler_.AwaitPeers(0));
}

TEST_F(ServerLinkTest, APeerThatReadsNoHeartbeatsIsDroppedToo) {
  v1::LinkMessage heartbeat;
  bool alive = true;
  for (uint64_t number = 1; alive && number < 10000000; ++number) {
    heartbeat.mutable_heartbeat()->set_number(number);
    alive = client_->Send(heartbeat);
  }
  EXPECT_FALSE(alive);
  EXPECT_TRUE(handler_.AwaitPeers(0));
}

// Sequences of messages, good and bad, drawn from a fixed seed.
class Sequences {
 public:
  // Of some peers that are honest.
  explicit Sequences(uint32_t seed) : random_(seed), honest_(seed % 4 == 0) {}

  v1::LinkMessage Next() {
    v1::LinkMessage message;
    switch (random_() % 8) {
      case 0:
        message.mutable_release()->set_sequence_id(random_() % 3);
        return message;
      case 1:
        message.mutable_heartbeat()->set_number(heartbeat_ += honest_ ? 1 : random_() % 16);
        return message;
      case 2:
        for (uint32_t i = random_() % 4; i > 0; --i) message.mutable_cancel()->add_swap_ids(i);
        return message;
      default:
        return Broken(ExchangeClient::Message(Headers()));
    }
  }

 private:
  std::vector<SwapHeader> Headers() {
    std::vector<SwapHeader> headers;
    for (uint32_t i = 0; i <= random_() % 2; ++i) {
      const uint64_t id = swap_ += honest_ || random_() % 40 != 0 ? 1 : 0;
      if (random_() % 3 == 0) {
        headers.push_back(MakeDispatch(id, {{0, 1}, {3}}, kHidden, random_() % 2 == 0));
      } else {
        headers.push_back(MakeHeader(
            id, {{random_() % 3, 0, static_cast<int64_t>(1 + random_() % 3), ReturnRows::kAll}},
            kHidden));
      }
    }
    return headers;
  }

  // Sometimes with some of its bytes changed.
  v1::LinkMessage Broken(const v1::LinkMessage& message) {
    if (honest_ || random_() % 3 != 0) return message;
    std::string bytes = message.SerializeAsString();
    for (uint32_t i = 0; i <= random_() % 3; ++i) {
      bytes[random_() % bytes.size()] = static_cast<char>(random_());
    }
    v1::LinkMessage broken;
    return broken.ParseFromString(bytes) ? broken : message;
  }

  std::mt19937 random_;
  const bool honest_;
  uint64_t swap_ = 0, heartbeat_ = 0;
};

TEST_F(ServerLinkTest, AnySequenceOfMessagesLeavesTheWorkerWholeAndEndsWithAReason) {
  client_.reset();
  ASSERT_TRUE(handler_.AwaitPeers(0));
  ExchangeService service(&handler_, {});
  ExchangeServer server(&service);
  GrpcLinkOptions options;
  options.identity.hidden_size = kHidden;
  ASSERT_OK_AND_ASSIGN(const auto honest, OpenGrpcLink(server.TcpChannel(), options));
  SwapRecorder recorder;
  int whole = 0, ended = 0;
  for (uint32_t seed = 1; seed <= 150; ++seed) {
    Sequences sequences(seed);
    ExchangeClient client(server.TcpChannel());
    if (seed % 16 != 1) client.Send(ExchangeClient::GoodOpen(kHidden));
    bool alive = true;
    for (int i = 0; alive && i < 20; ++i) alive = client.Send(sequences.Next());
    client.HalfClose();
    const grpc::Status end = client.End();
    EXPECT_TRUE(end.ok() || !end.error_message().empty()) << "seed " << seed;
    ++(end.ok() ? whole : ended);
    const SwapHeader header = MakeHeader(seed, {{seed, 0, 1, ReturnRows::kAll}}, kHidden);
    recorder.Send(*honest, header, TaggedRows(header, 1));
    ASSERT_OK(recorder.Await(seed).status());
  }
  EXPECT_GT(ended, 50);
  EXPECT_GE(whole, 150 / 4);
  EXPECT_TRUE(handler_.AwaitPeers(1));
}

}  // namespace
}  // namespace ccoe::exchange
