// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/activation_link.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/exchange/swap_recorder.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::exchange {
namespace {

using ::testing::HasSubstr;

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
