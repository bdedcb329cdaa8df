#include "runtime/exchange/grpc/thread_reserve.h"

#include "gtest/gtest.h"
#include "tests/testing/fake_clock.h"

namespace ccoe::exchange {
namespace {

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
