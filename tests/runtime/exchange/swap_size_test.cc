#include "runtime/exchange/swap_size.h"

#include <algorithm>
#include <vector>

#include "gtest/gtest.h"
#include "tests/runtime/exchange/swap_recorder.h"

namespace ccoe::exchange {
namespace {

TEST(SwapSizeTest, CountsRowsBothWaysAndCapturedLayers) {
  StepHeader header = MakeHeader(1, {{1, 0, 5, ReturnRows::kLast}, {2, 0, 2, ReturnRows::kAll}}, 8);
  EXPECT_EQ(SizeOf(header).sent, 7 * 8 * 4);
  EXPECT_EQ(SizeOf(header).returned, 3 * 8 * 4);
  header.wire_dtype = kernels::DType::kBF16;
  EXPECT_EQ(SizeOf(header).sent, 7 * 8 * 2);
  header.capture_layers = true;
  EXPECT_EQ(SizeOf(header).returned, 3 * 8 * 2 + 2 * 7 * 8 * 4);
  EXPECT_EQ(SizeOf(header).total(), SizeOf(header).sent + SizeOf(header).returned);
}

TEST(SwapSizeTest, ADispatchSendsItsListsAndGetsBackARowForEachExpert) {
  StepHeader header = MakeDispatch(1, {{0, 1, 2}, {5}}, 8);
  EXPECT_GE(SizeOf(header).sent, 2 * 8 * 4 + 4 * 5);
  EXPECT_EQ(SizeOf(header).returned, 4 * 8 * 4);
  header.ffn->combine = true;
  EXPECT_EQ(SizeOf(header).returned, 2 * 8 * 4);
}

TEST(SwapSizeTest, AsManyRowsAsItSaysFitAndTheBoundIsNearlyUsed) {
  SwapBounds bounds;
  bounds.max_bytes = 100000;
  for (const bool combine : {false, true}) {
    const SwapForm form = {16, kernels::DType::kF32, 4, combine};
    const int64_t rows = MaxSwapRows(form, bounds);
    const std::vector<std::vector<int32_t>> experts(rows, {0, 1, 2, 3});
    const SwapBytes bytes = SizeOf(MakeDispatch(1, experts, 16, combine));
    EXPECT_LE(bytes.sent, bounds.max_bytes);
    EXPECT_LE(bytes.returned, bounds.max_bytes);
    EXPECT_GT(std::max(bytes.sent, bytes.returned), bounds.max_bytes * 9 / 10);
  }
}

TEST(SwapSizeTest, RowsOfSequencesAreBoundByBytesOrByTheLimitOfRows) {
  EXPECT_EQ(MaxSwapRows({1024, kernels::DType::kF32}, {65536, 40960}), 10);
  EXPECT_EQ(MaxSwapRows({1024, kernels::DType::kBF16}, {65536, 40960}), 20);
  EXPECT_EQ(MaxSwapRows({1024, kernels::DType::kF32}, {7}), 7);
  EXPECT_EQ(MaxSwapRows({1024, kernels::DType::kF32}, {7, 100}), 0);
}

}  // namespace
}  // namespace ccoe::exchange
