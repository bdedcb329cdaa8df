#include "services/common/backoff.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ccoe::services {
namespace {

using ::testing::AllOf;
using ::testing::Ge;
using ::testing::Le;

TEST(BackoffTest, DoublesUpToTheLongestPause) {
  Backoff backoff(absl::Milliseconds(100), absl::Milliseconds(300));
  for (int expected_ms : {100, 200, 300, 300}) {
    const absl::Duration longest = absl::Milliseconds(expected_ms);
    EXPECT_THAT(backoff.Next(), AllOf(Ge(longest * 0.8), Le(longest)));
  }
}

TEST(BackoffTest, BeginsAgainAfterReset) {
  Backoff backoff(absl::Milliseconds(100), absl::Seconds(10));
  for (int i = 0; i < 5; ++i) backoff.Next();
  backoff.Reset();
  EXPECT_LE(backoff.Next(), absl::Milliseconds(100));
}

}  // namespace
}  // namespace ccoe::services
