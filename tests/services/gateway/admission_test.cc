#include "services/gateway/admission.h"

#include <memory>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "services/common/status_to_grpc.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

TEST(AdmissionTest, AdmitsUpToTheLimitAndAgainWhenAPlaceIsGivenBack) {
  testing::FakeClock clock;
  Admission admission(2, &clock);
  ASSERT_OK_AND_ASSIGN(auto first, admission.Enter());
  ASSERT_OK_AND_ASSIGN(auto second, admission.Enter());
  EXPECT_EQ(admission.taken(), 2);
  EXPECT_THAT(admission.Enter().status(),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("2 queries")));
  first.reset();
  ASSERT_OK_AND_ASSIGN(auto third, admission.Enter());
  EXPECT_EQ(admission.taken(), 2);
}

TEST(AdmissionTest, TheRetryHintFollowsTheRateAtWhichQueriesEnd) {
  testing::FakeClock clock;
  Admission admission(2, &clock);
  ASSERT_OK_AND_ASSIGN(auto stays, admission.Enter());
  for (int i = 0; i < 50; ++i) {
    ASSERT_OK_AND_ASSIGN(auto goes, admission.Enter());
    clock.Advance(absl::Seconds(4));
  }
  ASSERT_OK_AND_ASSIGN(auto last, admission.Enter());
  const absl::Status full = admission.Enter().status();
  const auto hint = RetryAfter(full);
  ASSERT_TRUE(hint.has_value());
  EXPECT_GT(*hint, absl::Milliseconds(3900));
  EXPECT_LT(*hint, absl::Milliseconds(4100));
}

}  // namespace
}  // namespace ccoe::services
