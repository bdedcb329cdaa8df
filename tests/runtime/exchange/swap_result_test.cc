// SPDX-License-Identifier: Apache-2.0

#include "runtime/exchange/swap_result.h"

#include <set>
#include <string>

#include "ccoe/v1/exchange.pb.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/activation_link.h"
#include "tests/runtime/exchange/swap_recorder.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::exchange {
namespace {

using ::testing::HasSubstr;

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

SwapHeader Three() {
  return MakeHeader(
      7, {{1, 0, 2, ReturnRows::kAll}, {2, 0, 3, ReturnRows::kLast}, {3, 0, 1, ReturnRows::kNone}},
      4);
}

SwapResult WithRows(int64_t rows) {
  SwapResult result;
  result.rows.resize(rows * 4);
  return result;
}

TEST(SwapResultTest, SequencesThatWereNotComputedBringNoRowsBack) {
  SwapResult result = WithRows(3);
  EXPECT_EQ(ReturnedRows(Three(), result), 3);
  EXPECT_OK(CheckResult(Three(), result));
  result.verdicts.resize(3);
  EXPECT_OK(CheckResult(Three(), result));
  result.verdicts[0] = SwapError(SwapReason::kKvLost, "from 0");
  EXPECT_FALSE(result.computed(0));
  EXPECT_TRUE(result.computed(1));
  EXPECT_EQ(ReturnedRows(Three(), result), 1);
  EXPECT_THAT(CheckResult(Three(), result),
              FailsWith(SwapReason::kInternal, HasSubstr("expected 4 values")));
  result.rows.resize(4);
  EXPECT_OK(CheckResult(Three(), result));
}

TEST(SwapResultTest, RefusesVerdictsOfAnotherNumberThanSequences) {
  SwapResult result = WithRows(3);
  result.verdicts.resize(2);
  EXPECT_THAT(CheckResult(Three(), result),
              FailsWith(SwapReason::kInternal, HasSubstr("expected 3 verdicts or none, found 2")));
  SwapResult pairs = WithRows(2);
  EXPECT_OK(CheckResult(MakeDispatch(1, {{0, 1}}, 4), pairs));
  pairs.verdicts.resize(1);
  EXPECT_THAT(CheckResult(MakeDispatch(1, {{0, 1}}, 4), pairs), FailsWith(SwapReason::kInternal));
}

TEST(SwapResultTest, CapturedRowsAreOfAllLayersAndRows) {
  SwapHeader header = Three();
  LayerOf(header).capture_layers = true;
  SwapResult result = WithRows(3);
  EXPECT_THAT(CheckResult(header, result),
              FailsWith(SwapReason::kInternal, HasSubstr("48 captured ones, found 12 and 0")));
  result.captured.resize(2 * 6 * 4);
  EXPECT_OK(CheckResult(header, result));
}

}  // namespace
}  // namespace ccoe::exchange
