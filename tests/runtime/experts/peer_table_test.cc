#include "runtime/experts/peer_table.h"

#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::experts {
namespace {

using ::ccoe::testing::StatusIs;

TEST(PeerTableTest, IdsAreFreshAndNeverReused) {
  PeerTable peers;
  const uint64_t first = peers.Add();
  EXPECT_NE(first, 0);
  ASSERT_TRUE(peers.StartLeaving(first));
  peers.Remove(first);
  EXPECT_GT(peers.Add(), first);
}

TEST(PeerTableTest, APeerThatIsGoingOrGoneIsRefused) {
  PeerTable peers;
  const uint64_t peer = peers.Add();
  EXPECT_OK(peers.Check(peer));
  ASSERT_TRUE(peers.StartLeaving(peer));
  EXPECT_THAT(peers.Check(peer), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_FALSE(peers.StartLeaving(peer));
  peers.Remove(peer);
  EXPECT_THAT(peers.Check(peer), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_FALSE(peers.StartLeaving(peer));
  EXPECT_THAT(peers.Check(77), StatusIs(absl::StatusCode::kUnavailable));
}

TEST(PeerTableTest, APeerIsIdleWhenAllItsSwapsHaveEnded) {
  PeerTable peers;
  const uint64_t peer = peers.Add(), other = peers.Add();
  peers.Begin(peer);
  peers.Begin(peer);
  peers.Begin(other);
  peers.End(peer);
  EXPECT_FALSE(peers.Idle(peer));
  peers.End(peer);
  EXPECT_TRUE(peers.Idle(peer));
  EXPECT_FALSE(peers.Idle(other));
}

}  // namespace
}  // namespace ccoe::experts
