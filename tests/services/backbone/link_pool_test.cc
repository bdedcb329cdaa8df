// SPDX-License-Identifier: Apache-2.0
#include "services/backbone/link_pool.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/eventually.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

class LinkPoolTest : public ::testing::Test {
 protected:
  // A link that says where it was destroyed.
  class Counted final : public exchange::ActivationLink {
   public:
    Counted(LinkPoolTest* test, std::string address) : test_(*test), address_(std::move(address)) {}
    ~Counted() override {
      test_.closed_on_ = std::this_thread::get_id();
      ++test_.closed_;
    }
    void Send(exchange::Envelope, exchange::SwapCallback) override {}
    void CancelSwaps(std::vector<uint64_t>) override {}
    void ReleaseSequence(uint64_t) override {}
    bool healthy() const override { return !test_.broken_; }
    absl::Status Health() const override {
      return healthy() ? absl::OkStatus() : absl::UnavailableError("cable cut");
    }
    std::string WhereIs(uint64_t) const override { return ""; }
    void Close() override {}
    std::string Name() const override { return address_; }

   private:
    LinkPoolTest& test_;
    const std::string address_;
  };

  std::unique_ptr<LinkPool> MakePool() {
    LinkPoolOptions options;
    options.retry = absl::Milliseconds(5);
    options.open = [this](const std::string& address)
        -> absl::StatusOr<std::unique_ptr<exchange::ActivationLink>> {
      if (broken_) return absl::UnavailableError("nobody there");
      ++opened_;
      return std::make_unique<Counted>(this, address);
    };
    options.on_change = [this] { ++changes_; };
    return std::make_unique<LinkPool>(std::move(options));
  }
  // Until the link is open and the pool has said so.
  std::shared_ptr<exchange::ActivationLink> Await(LinkPool& pool,
                                                  const std::string& address) const {
    for (const absl::Time end = absl::Now() + absl::Minutes(1); absl::Now() < end;) {
      auto link = pool.Get(address);
      if (link.ok() && changes_ > 0) return *std::move(link);
      absl::SleepFor(absl::Milliseconds(1));
    }
    return nullptr;
  }
  bool AwaitClosed(int count) const {
    return testing::Eventually([&] { return closed_ >= count; });
  }

  std::atomic<bool> broken_ = false;
  std::atomic<int> opened_ = 0, closed_ = 0, changes_ = 0;
  std::atomic<std::thread::id> closed_on_;
};

TEST_F(LinkPoolTest, OpensAWantedLinkOnceAndSaysSo) {
  const auto pool = MakePool();
  EXPECT_THAT(pool->Get("a"), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("wanted")));
  pool->SetAddresses({"a"});
  const auto link = Await(*pool, "a");
  ASSERT_NE(link, nullptr);
  EXPECT_EQ(link->Name(), "a");
  pool->SetAddresses({"a", "b"});
  EXPECT_EQ(Await(*pool, "a"), link);
}

TEST_F(LinkPoolTest, ABrokenLinkIsOpenedAgainAndTheOldOneClosesWithItsLastHolder) {
  const auto pool = MakePool();
  pool->SetAddresses({"a"});
  auto before = Await(*pool, "a");
  const int changes = changes_;
  broken_ = true;
  EXPECT_THAT(pool->Get("a"), StatusIs(absl::StatusCode::kUnavailable));
  ASSERT_TRUE(testing::Eventually([&] { return changes_ != changes; }));
  broken_ = false;
  const auto after = Await(*pool, "a");
  EXPECT_NE(after, before);
  EXPECT_EQ(closed_, 0);
  before.reset();
  EXPECT_TRUE(AwaitClosed(1));
}

TEST_F(LinkPoolTest, ALinkThatIsLetGoIsClosedOnAThreadOfThePool) {
  const auto pool = MakePool();
  pool->SetAddresses({"a"});
  auto held = Await(*pool, "a");
  pool->SetAddresses({});
  EXPECT_EQ(held->Name(), "a");
  held.reset();
  EXPECT_TRUE(AwaitClosed(1));
  EXPECT_NE(closed_on_.load(), std::this_thread::get_id());
}

TEST_F(LinkPoolTest, ALinkMayOutliveThePool) {
  auto pool = MakePool();
  pool->SetAddresses({"a"});
  auto held = Await(*pool, "a");
  pool.reset();
  EXPECT_EQ(closed_, 0);
  held.reset();
  EXPECT_EQ(closed_, 1);
}

}  // namespace
}  // namespace ccoe::services
