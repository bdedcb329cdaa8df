// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/swap_reason.h"

#include <set>
#include <string>

#include "ccoe/v1/exchange.pb.h"
#include "gtest/gtest.h"
#include "runtime/base/status_macros.h"

namespace ccoe::exchange {
namespace {

constexpr int kReasons = static_cast<int>(SwapReason::kLinkBroken) + 1;

TEST(SwapReasonTest, EveryReasonSurvivesInAStatusAndUnderAnnotations) {
  for (int number = 1; number < kReasons; ++number) {
    const auto reason = static_cast<SwapReason>(number);
    const absl::Status status = SwapError(reason, "words");
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(ReasonOf(status), reason);
    EXPECT_EQ(ReasonOf(Annotate(Annotate(status, "a link"), "a worker")), reason);
    EXPECT_EQ(status.message(), "words");
  }
}

TEST(SwapReasonTest, AStatusWithoutAReasonIsAnInternalErrorAndOkIsNone) {
  EXPECT_EQ(ReasonOf(absl::NotFoundError("no such thing")), SwapReason::kInternal);
  EXPECT_EQ(ReasonOf(absl::OkStatus()), SwapReason::kNone);
}

TEST(SwapReasonTest, EveryReasonHasANameOfItsOwn) {
  std::set<std::string> names;
  for (int number = 0; number < kReasons; ++number) {
    names.insert(std::string(SwapReasonName(static_cast<SwapReason>(number))));
  }
  EXPECT_EQ(names.size(), kReasons);
  EXPECT_EQ(names.count(""), 0);
}

TEST(SwapReasonTest, TheWireHasTheSameReasons) {
  EXPECT_EQ(v1::SwapReason_MAX, kReasons - 1);
  EXPECT_EQ(static_cast<int>(SwapReason::kKvLost), v1::SWAP_REASON_KV_LOST);
  EXPECT_EQ(static_cast<int>(SwapReason::kTooLong), v1::SWAP_REASON_TOO_LONG);
  EXPECT_EQ(static_cast<int>(SwapReason::kDeviceFailed), v1::SWAP_REASON_DEVICE_FAILED);
  EXPECT_EQ(static_cast<int>(SwapReason::kLinkBroken), v1::SWAP_REASON_LINK_BROKEN);
}

}  // namespace
}  // namespace ccoe::exchange
