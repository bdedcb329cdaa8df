// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/grpc/exchange_service.h"

#include <atomic>
#include <memory>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/exchange/grpc/exchange_client.h"
#include "tests/runtime/exchange/grpc/exchange_server.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/fake_swap_handler.h"

namespace ccoe::exchange {
namespace {

using ::ccoe::testing::FakeSwapHandler;
using ::testing::HasSubstr;

constexpr int64_t kHidden = 4;

class ExchangeServiceTest : public ::testing::Test {
 protected:
  void Start(ExchangeServiceOptions options = {}) {
    options.link.identity.worker_id = "expert-2";
    options.link.epoch = 99;
    service_ = std::make_unique<ExchangeService>(&handler_, options);
    server_ = std::make_unique<ExchangeServer>(service_.get());
  }
  std::unique_ptr<ExchangeClient> Client() {
    return std::make_unique<ExchangeClient>(server_->TcpChannel());
  }

  void ExpectRefused(const v1::OpenLink& open, grpc::StatusCode code, const char* message) {
    auto client = Client();
    client->Send(open);
    const grpc::Status end = client->End();
    EXPECT_EQ(end.error_code(), code) << end.error_message();
    EXPECT_THAT(end.error_message(), HasSubstr(message));
    EXPECT_TRUE(handler_.AwaitPeers(0));
  }

  FakeSwapHandler handler_{kHidden};
  std::unique_ptr<ExchangeService> service_;
  std::unique_ptr<ExchangeServer> server_;
};

TEST_F(ExchangeServiceTest, AcceptsAndSaysWhoItIsAndWhatItTakes) {
  ExchangeServiceOptions options;
  options.link.grant.credit = {4096, 5};
  options.link.grant.limits.max_rows = 123;
  options.link.identity.served_digest = "ab12";
  Start(options);
  auto client = Client();
  client->Send(ExchangeClient::GoodOpen(kHidden));
  const v1::OpenAccepted accepted = client->Read().accepted();
  EXPECT_EQ(accepted.protocol_version(), 3);
  EXPECT_EQ(accepted.worker_id(), "expert-2");
  EXPECT_EQ(accepted.epoch(), 99);
  EXPECT_EQ(accepted.max_swaps(), 5);
  EXPECT_EQ(accepted.credit_bytes(), 4096);
  EXPECT_EQ(accepted.max_rows(), 123);
  EXPECT_GT(accepted.max_sequences(), 0);
  EXPECT_EQ(accepted.numerics(), "fake numerics");
  EXPECT_EQ(accepted.served_digest(), "ab12");
  EXPECT_EQ(service_->links(), 1);
}

TEST_F(ExchangeServiceTest, WithoutThreadsToSpareItRefusesLinksUntilThereAreSome) {
  std::atomic<bool> spare = false;
  std::atomic<int> probes = 0;
  ExchangeServiceOptions options;
  options.max_links = 1;
  options.spare_threads = [&] { return ++probes, spare.load(); };
  Start(options);
  ExpectRefused(ExchangeClient::GoodOpen(kHidden), grpc::StatusCode::RESOURCE_EXHAUSTED,
                "the worker has no threads to spare for a link");
  EXPECT_EQ(service_->links(), 0);
  spare = true;
  std::unique_ptr<ExchangeClient> client;
  do {  // the failed probe holds for a second
    client = Client();
    client->Send(ExchangeClient::GoodOpen(kHidden));
  } while (client->Read().accepted().worker_id() != "expert-2");
  EXPECT_EQ(service_->links(), 1);
  // A link that is refused anyway costs no probe.
  const int before = probes;
  for (int i = 0; i < 2 * ThreadReserve::kLinksAProbe; ++i) {
    auto another = Client();
    another->Send(ExchangeClient::GoodOpen(kHidden));
    EXPECT_THAT(another->End().error_message(), HasSubstr("1 links are open, at most 1"));
  }
  EXPECT_EQ(probes, before);
}

TEST_F(ExchangeServiceTest, RefusesAnotherProtocolVersionNamingBoth) {
  Start();
  v1::OpenLink open = ExchangeClient::GoodOpen(kHidden);
  open.set_protocol_version(2);
  ExpectRefused(open, grpc::StatusCode::FAILED_PRECONDITION, "this worker speaks 3, the peer 2");
}

TEST_F(ExchangeServiceTest, RefusesAnotherModelAndOtherWeights) {
  ExchangeServiceOptions options;
  options.link.identity.model_fingerprint = "aaaa";
  options.link.identity.source_digest = "1234";
  Start(options);
  v1::OpenLink open = ExchangeClient::GoodOpen(kHidden);
  open.set_hidden_size(8);
  ExpectRefused(open, grpc::StatusCode::FAILED_PRECONDITION,
                "this worker's model has 4, the peer's 8");
  open = ExchangeClient::GoodOpen(kHidden);
  open.set_model_fingerprint("bbbb");
  ExpectRefused(open, grpc::StatusCode::FAILED_PRECONDITION,
                "this worker serves aaaa, the peer bbbb");
  open.set_model_fingerprint("aaaa");
  open.set_source_digest("5678");
  ExpectRefused(open, grpc::StatusCode::FAILED_PRECONDITION,
                "digest of the base's weights: this worker serves 1234, the peer 5678");
}

TEST_F(ExchangeServiceTest, AnotherNumericsClassIsNoError) {
  Start();
  v1::OpenLink open = ExchangeClient::GoodOpen(kHidden);
  open.set_numerics("another class");
  open.set_served_digest("ffff");
  auto client = Client();
  client->Send(open);
  EXPECT_EQ(client->Read().accepted().numerics(), "fake numerics");
}

TEST_F(ExchangeServiceTest, BoundsTheNumberOfLinks) {
  ExchangeServiceOptions options;
  options.max_links = 1;
  Start(options);
  auto first = Client();
  first->Send(ExchangeClient::GoodOpen(kHidden));
  EXPECT_TRUE(first->Read().has_accepted());
  auto second = Client();
  second->Send(ExchangeClient::GoodOpen(kHidden));
  const grpc::Status end = second->End();
  EXPECT_EQ(end.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(end.error_message(), HasSubstr("1 links are open, at most 1"));
}

TEST_F(ExchangeServiceTest, APeerThatNeverSaysWhoItIsIsDropped) {
  ExchangeServiceOptions options;
  options.link.open_timeout = absl::Milliseconds(30);
  Start(options);
  auto client = Client();
  EXPECT_FALSE(client->End().ok());
  EXPECT_TRUE(handler_.AwaitPeers(0));
}

TEST_F(ExchangeServiceTest, CloseLinksEndsThemAndRefusesNewOnes) {
  Start();
  handler_.Hold();
  auto client = Client();
  client->Send(ExchangeClient::GoodOpen(kHidden));
  EXPECT_TRUE(client->Read().has_accepted());
  client->Send(ExchangeClient::GoodSwap(1, kHidden));
  ASSERT_TRUE(handler_.AwaitEvents(1));
  service_->CloseLinks();
  EXPECT_FALSE(client->End().ok());
  EXPECT_TRUE(handler_.AwaitPeers(0));
  auto late = Client();
  late->Send(ExchangeClient::GoodOpen(kHidden));
  EXPECT_EQ(late->End().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(ExchangeServiceTest, APeerIsRemovedHoweverItsStreamEnds) {
  Start();
  handler_.Hold();
  for (const bool abrupt : {false, true}) {
    auto client = Client();
    client->Send(ExchangeClient::GoodOpen(kHidden));
    EXPECT_TRUE(client->Read().has_accepted());
    client->Send(ExchangeClient::GoodSwap(1, kHidden));
    ASSERT_TRUE(handler_.AwaitPeers(1));
    if (abrupt) {
      client->Cancel();
    } else {
      client->HalfClose();
    }
    EXPECT_TRUE(handler_.AwaitPeers(0));
  }
}

class ThreadReserveTest : public ::testing::Test {
 protected:
  ::ccoe::testing::FakeClock clock_;
  bool spare_ = true;
  int probes_ = 0;
  ThreadReserve reserve_{[this] { return ++probes_, spare_; }, &clock_};
};

TEST_F(ThreadReserveTest, ThisProcessMayHaveSomeThreadsMore) { EXPECT_TRUE(StartsSpareThreads()); }

TEST_F(ThreadReserveTest, AProbeLetsSomeLinksInAndHoldsForASecond) {
  for (int i = 0; i < ThreadReserve::kLinksAProbe; ++i) EXPECT_TRUE(reserve_.Admit());
  EXPECT_EQ(probes_, 1);
  EXPECT_TRUE(reserve_.Admit());
  EXPECT_EQ(probes_, 2);
  spare_ = false;
  EXPECT_TRUE(reserve_.Admit());  // still on the second
  clock_.Advance(absl::Seconds(1));
  EXPECT_FALSE(reserve_.Admit());
  EXPECT_EQ(probes_, 3);
}

TEST_F(ThreadReserveTest, AtTheLimitItProbesOnceASecond) {
  spare_ = false;
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(reserve_.Admit());
  EXPECT_EQ(probes_, 1);
  spare_ = true;
  EXPECT_FALSE(reserve_.Admit());
  clock_.Advance(absl::Seconds(1));
  EXPECT_TRUE(reserve_.Admit());
  EXPECT_EQ(probes_, 2);
}

}  // namespace
}  // namespace ccoe::exchange
