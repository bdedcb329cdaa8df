// SPDX-License-Identifier: Apache-2.0
#include "runtime/experts/pass_memory.h"

#include <algorithm>
#include <tuple>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/exchange/row_block.h"
#include "runtime/exchange/swap_result.h"
#include "tests/runtime/experts/swaps.h"
#include "tests/runtime/experts/tiny_expert.h"
#include "tests/testing/device_rows.h"
#include "tests/testing/reference_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::experts {

bool operator==(const RowRun& a, const RowRun& b) {
  return std::tie(a.swap, a.swap_row, a.pass_row, a.count) ==
         std::tie(b.swap, b.swap_row, b.pass_row, b.count);
}

namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int64_t kHidden = 32;

TEST(RowRunTest, RowsThatFollowEachOtherAreOneRun) {
  std::vector<RowRun> runs;
  AppendRun(runs, {0, 0, 0, 2});
  AppendRun(runs, {0, 2, 2, 3});
  AppendRun(runs, {0, 6, 5, 1});  // row 5 of the swap is left out
  AppendRun(runs, {1, 7, 6, 0});
  AppendRun(runs, {1, 0, 6, 1});
  EXPECT_THAT(runs, ElementsAre(RowRun{0, 0, 0, 5}, RowRun{0, 6, 5, 1}, RowRun{1, 0, 6, 1}));
}

TEST(RowRunTest, APieceOfAPassHasItsPartOfTheRuns) {
  const std::vector<RowRun> runs = {{0, 0, 0, 5}, {0, 6, 5, 1}, {1, 0, 6, 4}};
  EXPECT_THAT(CutRuns(runs, 3, 8),
              ElementsAre(RowRun{0, 3, 0, 2}, RowRun{0, 6, 2, 1}, RowRun{1, 0, 3, 2}));
  EXPECT_THAT(CutRuns(runs, 10, 12), IsEmpty());
}

class PassMemoryTest : public ::testing::Test {
 protected:
  int64_t Taken(const model::ModelSpec& spec, PassMemory::Limits limits) {
    const int64_t before = device_.taken_bytes();
    const auto memory = PassMemory::Create(spec, limits, testing::MakeTaggedOps(&device_, &team_));
    CCOE_CHECK(memory.ok());
    return device_.taken_bytes() - before;
  }
  // What TakeIn brings of one swap.
  std::vector<float> TakenIn(exchange::Swap swap, std::vector<RowRun> runs) {
    auto memory = PassMemory::Create(TinySpec(), {8, 0}, testing::MakeTaggedOps(&device_, &team_));
    CCOE_CHECK(memory.ok());
    std::vector<WaitingSwap> swaps(1);
    swaps[0].swap = std::move(swap);
    CCOE_CHECK((*memory)->TakeIn(swaps, runs).ok());
    CCOE_CHECK((*memory)->ops().Synchronize().ok());
    int64_t rows = 0;
    for (const RowRun& run : runs) rows += run.count;
    std::vector<float> values(rows * kHidden);
    CCOE_CHECK(
        device_.CopyToHost((*memory)->Rows(rows).data, values.data(), values.size() * sizeof(float))
            .ok());
    return values;
  }

  testing::TaggedDevice device_;
  ThreadTeam team_{1};
};

TEST_F(PassMemoryTest, EachKindOfPassTakesItsOwnMemoryAndBothShare) {
  const model::ModelSpec moe = testing::TinyMoeSpec();
  const int64_t layers = Taken(moe, {64, 0}), ffn = Taken(moe, {0, 64}),
                both = Taken(moe, {64, 64});
  EXPECT_GT(layers, 0);
  EXPECT_GT(ffn, 0);
  EXPECT_GE(both, std::max(layers, ffn));
  EXPECT_LT(both, layers + ffn);
  EXPECT_EQ(Taken(TinySpec(), {0, 64}), 0);  // a model without FFN experts
  testing::TaggedDevice small(1000);
  EXPECT_THAT(PassMemory::Create(moe, {64, 0}, testing::MakeTaggedOps(&small, &team_)),
              testing::StatusIs(absl::StatusCode::kResourceExhausted,
                                ::testing::HasSubstr("memory of the experts' passes")));
}

TEST_F(PassMemoryTest, ARowWithAllExpertsOfALayerAlwaysFits) {
  const auto memory =
      PassMemory::Create(testing::TinyMoeSpec(), {0, 1}, testing::MakeTaggedOps(&device_, &team_));
  ASSERT_OK(memory.status());
  EXPECT_EQ((*memory)->limits().pairs, 6);
}

TEST_F(PassMemoryTest, RowsOfTheHostAreGatheredAndRoundedAsTheWireWould) {
  const std::vector<float> block = TinyRows(4, 1);
  for (const kernels::DType wire : {kernels::DType::kF32, kernels::DType::kBF16}) {
    exchange::Swap swap;
    swap.header = LayerHeader(1, {{1, 0, 3}});
    swap.header.format.dtype = wire;
    swap.rows.block = block;
    swap.rows.index = {3, 0, 0};
    std::vector<float> expected;
    for (const int32_t row : swap.rows.index) {
      expected.insert(expected.end(), block.begin() + row * kHidden,
                      block.begin() + (row + 1) * kHidden);
    }
    exchange::RoundToWire(wire, absl::MakeSpan(expected));
    EXPECT_EQ(TakenIn(swap, {{0, 0, 0, 3}}), expected);
    // Without an index, some rows of the block.
    swap.rows.index.clear();
    expected.assign(block.begin() + kHidden, block.begin() + 3 * kHidden);
    exchange::RoundToWire(wire, absl::MakeSpan(expected));
    EXPECT_EQ(TakenIn(swap, {{0, 1, 0, 2}}), expected);
  }
}

TEST_F(PassMemoryTest, WhatRowsOfADeviceGiveLiesThereWhileThereIsRoom) {
  ASSERT_OK_AND_ASSIGN(const auto memory, exchange::RowMemory::Create(&device_, 1024));
  ASSERT_OK_AND_ASSIGN(auto rows, memory->Take(3, kHidden, kernels::DType::kBF16));
  const auto swap_of = [](exchange::RowBlock block) {
    exchange::SwapHeader header = LayerHeader(1, {{1, 0, 3, exchange::ReturnRows::kAll}});
    header.format.dtype = kernels::DType::kBF16;
    return Waiting(std::move(header), std::move(block));
  };
  std::vector<WaitingSwap> swaps;
  swaps.push_back(swap_of(rows.block));
  swaps.push_back(swap_of(rows.block));
  swaps.push_back(swap_of(std::vector<float>(3 * kHidden)));
  PassResults results(swaps, kHidden);
  EXPECT_TRUE(results.result(0).device_rows.on_device());
  EXPECT_EQ(results.result(0).device_rows.dtype(), kernels::DType::kBF16);
  EXPECT_THAT(results.result(0).rows, IsEmpty());
  for (const size_t i : {1, 2}) {
    EXPECT_FALSE(results.result(i).device_rows.on_device());
    EXPECT_EQ(results.result(i).rows.size(), 3 * kHidden);
  }
}

TEST_F(PassMemoryTest, SequencesThatAreLeftOutGetNoRoom) {
  std::vector<WaitingSwap> swaps;
  swaps.push_back(Waiting(LayerHeader(1, {{1, 0, 3, exchange::ReturnRows::kAll},
                                          {2, 0, 2, exchange::ReturnRows::kAll}}),
                          std::vector<float>(5 * kHidden)));
  swaps[0].LeaveOut(0, exchange::SwapError(exchange::SwapReason::kNoPages, "none"));
  PassResults results(swaps, kHidden);
  EXPECT_EQ(results.result(0).rows.size(), 2 * kHidden);
  EXPECT_OK(exchange::CheckResult(swaps[0].header(), results.result(0)));
}

}  // namespace
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(UnitHostOptionsTest, TheOpsShapesAreThoseOfTheKindsItMayHold) {
  const model::ModelSpec spec = testing::TinyMoeSpec();
  UnitHostOptions options;
  options.max_batch_rows = 7;
  options.max_batch_pairs = 40;
  const kernels::OpShapes both = ShapesOf(spec, options);
  options.ffn_experts = false;
  const kernels::OpShapes layers = ShapesOf(spec, options);
  EXPECT_EQ(PassLimitsOf(options).rows, 7);
  EXPECT_EQ(PassLimitsOf(options).pairs, 0);
  options.ffn_experts = true;
  options.layer_experts = false;
  const kernels::OpShapes ffn = ShapesOf(spec, options);
  EXPECT_EQ(PassLimitsOf(options).rows, 0);
  EXPECT_EQ(PassLimitsOf(options).pairs, 40);
  EXPECT_THAT(ffn.products, IsEmpty());
  EXPECT_THAT(ffn.attentions, IsEmpty());
  ASSERT_THAT(ffn.experts, SizeIs(1));
  EXPECT_EQ(ffn.experts[0].pairs, 40);
  ASSERT_THAT(layers.experts, SizeIs(1));
  EXPECT_EQ(layers.experts[0].rows, 7);
  EXPECT_THAT(layers.attentions, SizeIs(2));
  EXPECT_THAT(both.experts, SizeIs(2));
  EXPECT_EQ(both.products.size(), layers.products.size());
  EXPECT_EQ(both.captured_steps, 7);
}

TEST(UnitHostOptionsTest, AnExpertsCacheHasWholePages) {
  UnitHostOptions options;
  options.kv_tokens = 100;
  options.page_tokens = 32;
  options.kv_dtype = kernels::DType::kBF16;
  const model::KvStorageOptions kv = KvOptionsOf(options, {4, 8});
  EXPECT_EQ(kv.pages, 4);
  EXPECT_EQ(kv.page_tokens, 32);
  EXPECT_EQ(kv.dtype, kernels::DType::kBF16);
  EXPECT_EQ(kv.layers.first, 4);
}

TEST(UnitHostOptionsTest, WhatMakesNoSenseIsRefusedByName) {
  EXPECT_OK(Check(UnitHostOptions()));
  UnitHostOptions options;
  options.page_tokens = 0;
  EXPECT_THAT(Check(options), StatusIs(absl::StatusCode::kInvalidArgument,
                                       HasSubstr("page_tokens: expected 1 or more, found 0")));
  options = {};
  options.max_waiting_bytes = -1;
  EXPECT_THAT(Check(options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("max_waiting_bytes")));
  options = {};
  options.layer_experts = options.ffn_experts = false;
  EXPECT_THAT(Check(options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found neither")));
}

}  // namespace

}  // namespace ccoe::experts
