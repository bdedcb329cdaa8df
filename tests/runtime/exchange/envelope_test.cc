// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/envelope.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/exchange/row_block.h"
#include "runtime/exchange/swap_result.h"
#include "tests/runtime/exchange/swap_recorder.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::exchange {
namespace {

using ::testing::HasSubstr;

SwapHeader Good() {
  SwapHeader header = MakeHeader(
      3, {{1, 0, 5, ReturnRows::kLast}, {2, 9, 3, ReturnRows::kAll}, {7, 4, 2, ReturnRows::kNone}},
      16);
  LayerOf(header).expert = {"math", 2};
  return header;
}

void ExpectRefused(const SwapHeader& header, const char* message,
                   const EnvelopeLimits& limits = {}) {
  EXPECT_THAT(Validate(header, 16, limits), FailsWith(SwapReason::kInvalid, HasSubstr(message)));
}

TEST(SwapHeaderTest, CountsRowsSentAndRowsComingBack) {
  EXPECT_EQ(Good().rows(), 10);
  EXPECT_EQ(Good().returned_rows(), 4);
  EXPECT_EQ(SwapHeader().rows(), 0);
}

TEST(SwapHeaderTest, AcceptsAGoodHeader) {
  EXPECT_OK(Validate(Good(), 16));
  SwapHeader header = Good();
  header.format.dtype = kernels::DType::kBF16;
  EXPECT_OK(Validate(header, 16));
}

TEST(SwapHeaderTest, RefusesWrongScalarsAndNamesThem) {
  SwapHeader header = Good();
  LayerOf(header).expert.name.clear();
  ExpectRefused(header, "expert: expected a name");
  header = Good();
  LayerOf(header).expert.version = 0;
  ExpectRefused(header, "expert version: expected 1 or more, found 0");
  header = Good();
  LayerOf(header).layers = {4, 4};
  ExpectRefused(header, "layers: expected 0 <= first < last, found [4, 4)");
  LayerOf(header).layers = {-1, 4};
  ExpectRefused(header, "found [-1, 4)");
  header = Good();
  header.format.hidden_size = 32;
  ExpectRefused(header, "hidden_size: expected 16, found 32");
  header = Good();
  header.format.dtype = kernels::DType::kF16;
  ExpectRefused(header, "wire_dtype: expected f32 or bf16, found f16");
}

TEST(SwapHeaderTest, RefusesSequencesThatMakeNoSense) {
  SwapHeader header = Good();
  LayerOf(header).sequences.clear();
  ExpectRefused(header, "sequences: expected 1 to 4096, found 0");
  header = Good();
  LayerOf(header).sequences[1].row_count = 0;
  ExpectRefused(header, "sequence 2 row_count: expected 1 to 65536, found 0");
  LayerOf(header).sequences[1].row_count = std::numeric_limits<int64_t>::max();
  ExpectRefused(header, "sequence 2 row_count");
  header = Good();
  LayerOf(header).sequences[0].first_position = -1;
  ExpectRefused(header, "sequence 1 first_position");
  LayerOf(header).sequences[0].first_position = std::numeric_limits<int64_t>::max();
  ExpectRefused(header, "sequence 1 first_position");
  header = Good();
  LayerOf(header).sequences[2].sequence_id = 1;
  ExpectRefused(header, "sequence 1 twice");
  header = Good();
  LayerOf(header).sequences[2].return_rows = static_cast<ReturnRows>(9);
  ExpectRefused(header, "return_rows: expected none, last or all, found 9");
}

TEST(SwapHeaderTest, HoldsSumsToTheLimits) {
  EnvelopeLimits limits;
  limits.max_rows = 9;
  ExpectRefused(Good(), "rows: expected at most 9, found 10", limits);
  limits = {};
  limits.max_sequences = 2;
  ExpectRefused(Good(), "sequences: expected 1 to 2, found 3", limits);
  limits = {};
  limits.max_position = 11;
  ExpectRefused(Good(), "expected 0 to 8 for 3 rows of at most 11 positions, found 9", limits);
}

// Three rows through 2, 1 and 3 experts.
SwapHeader Dispatch() {
  SwapHeader header;
  header.id = 4;
  header.format.hidden_size = 16;
  FfnSwap ffn;
  ffn.layer = 5;
  ffn.offsets = {0, 2, 3, 6};
  ffn.experts = {0, 9, 4, 1, 2, 3};
  ffn.weights = {0.5f, 0.25f, 1.0f, -0.0f, 2.0f, 1e-30f};
  header.work = ffn;
  return header;
}

TEST(SwapHeaderTest, ADispatchReturnsARowForEachExpertUnlessItIsCombined) {
  SwapHeader header = Dispatch();
  EXPECT_OK(Validate(header, 16));
  EXPECT_EQ(header.rows(), 3);
  EXPECT_EQ(header.returned_rows(), 6);
  FfnOf(header).combine = true;
  EXPECT_OK(Validate(header, 16));
  EXPECT_EQ(header.returned_rows(), 3);
  EXPECT_EQ(FfnSwap().rows(), 0);
}

TEST(SwapHeaderTest, RefusesDispatchesWhoseListsContradictEachOther) {
  SwapHeader header = Dispatch();
  FfnOf(header).offsets.clear();
  ExpectRefused(header, "dispatch rows: expected 1 to 65536, found 0");
  FfnOf(header).offsets = {0};
  ExpectRefused(header, "dispatch rows");
  header = Dispatch();
  FfnOf(header).offsets[0] = 1;
  ExpectRefused(header, "dispatch offsets: expected 0 first, found 1");
  header = Dispatch();
  FfnOf(header).offsets[2] = 2;
  ExpectRefused(header, "dispatch row 1: expected 1 to 1024 experts, found 0");
  FfnOf(header).offsets = {0, std::numeric_limits<int32_t>::max(),
                           std::numeric_limits<int32_t>::min(), 6};
  ExpectRefused(header, "dispatch row 0: expected 1 to 1024 experts, found 2147483647");
  header = Dispatch();
  FfnOf(header).offsets[3] = 5;
  ExpectRefused(header, "dispatch: expected 5 experts and as many weights, found 6 and 6");
  header = Dispatch();
  FfnOf(header).weights.pop_back();
  ExpectRefused(header, "expected 6 experts and as many weights, found 6 and 5");
}

TEST(SwapHeaderTest, RefusesExpertsThatDoNotRiseAndWeightsThatAreNotFinite) {
  SwapHeader header = Dispatch();
  FfnOf(header).experts[4] = 1;
  ExpectRefused(header, "dispatch row 2: expected experts that rise from 0, found 1 after 1");
  header = Dispatch();
  FfnOf(header).experts[2] = -1;
  ExpectRefused(header, "dispatch row 1: expected experts that rise from 0, found -1");
  header = Dispatch();
  FfnOf(header).weights[1] = std::numeric_limits<float>::quiet_NaN();
  ExpectRefused(header, "dispatch row 0 expert 9: expected a finite weight, found nan");
  FfnOf(header).weights[1] = std::numeric_limits<float>::infinity();
  ExpectRefused(header, "found inf");
}

TEST(SwapHeaderTest, HoldsDispatchesToTheLimits) {
  EnvelopeLimits limits;
  limits.max_rows = 2;
  ExpectRefused(Dispatch(), "dispatch rows: expected 1 to 2, found 3", limits);
  limits = {};
  limits.max_experts_per_row = 2;
  ExpectRefused(Dispatch(), "dispatch row 2: expected 1 to 2 experts, found 3", limits);
  SwapHeader header = Dispatch();
  FfnOf(header).layer = -1;
  ExpectRefused(header, "dispatch layer: expected 0 or more, found -1");
  header = Dispatch();
  header.format.hidden_size = 8;
  ExpectRefused(header, "hidden_size");
}

Envelope Two() {
  Envelope envelope;
  Add(envelope, Good(), {RowBlock(std::vector<float>(10 * 16)), {}});
  Add(envelope, Dispatch(), {RowBlock(std::vector<float>(5 * 16)), {4, 0, 4}});
  return envelope;
}

void ExpectRefused(const Envelope& envelope, const char* message,
                   const EnvelopeLimits& limits = {}) {
  EXPECT_THAT(Validate(envelope, 16, limits, nullptr),
              FailsWith(SwapReason::kInvalid, HasSubstr(message)));
}

TEST(EnvelopeTest, AcceptsSwapsOfBothKindsWhoseRowsShareABlock) {
  EXPECT_OK(Validate(Two(), 16, {}, nullptr));
  Envelope shared = Two();
  const RowBlock block(std::vector<float>(10 * 16));
  for (Swap& swap : shared.swaps) swap.rows.block = block;
  EXPECT_OK(Validate(shared, 16, {}, nullptr));
}

TEST(EnvelopeTest, RefusesNoSwapsTooManyAndIdsThatDoNotRise) {
  ExpectRefused(Envelope(), "swaps: expected 1 to 1024, found 0");
  EnvelopeLimits limits;
  limits.max_swaps = 1;
  ExpectRefused(Two(), "swaps: expected 1 to 1, found 2", limits);
  Envelope envelope = Two();
  envelope.swaps[1].header.id = 3;
  ExpectRefused(envelope, "swap id: expected more than 3, found 3");
  envelope.swaps[0].header.id = 0;
  ExpectRefused(envelope, "swap id: expected more than 0, found 0");
}

TEST(EnvelopeTest, HoldsTheSumsOfAllSwapsToTheLimits) {
  EnvelopeLimits limits;
  limits.max_rows = 12;
  ExpectRefused(Two(), "envelope: expected at most 12 rows", limits);
  limits.max_rows = 13;
  EXPECT_OK(Validate(Two(), 16, limits, nullptr));
  Envelope envelope = Two();
  Add(envelope, Good(), {RowBlock(std::vector<float>(10 * 16)), {}}).swaps[2].header.id = 9;
  limits = {};
  limits.max_sequences = 5;
  ExpectRefused(envelope, "5 sequences", limits);
}

TEST(EnvelopeTest, RefusesAWrongSwapByItsId) {
  Envelope envelope = Two();
  FfnOf(envelope.swaps[1].header).layer = -1;
  ExpectRefused(envelope, "swap 4: dispatch layer");
  envelope = Two();
  envelope.swaps[1].header.format.dtype = kernels::DType::kBF16;
  ExpectRefused(envelope,
                "swap 4 wire_dtype: expected that of the envelope's first swap, f32, found bf16");
}

TEST(EnvelopeTest, RefusesRowsThatAreNotAsTheHeaderSays) {
  Envelope envelope = Two();
  envelope.swaps[0].rows.block = RowBlock(std::vector<float>(9 * 16));
  ExpectRefused(envelope, "swap 3: rows: expected [10, 16] f32, found 144 values");
  envelope.swaps[0].rows = {};
  ExpectRefused(envelope, "found 0 values");
  envelope = Two();
  envelope.swaps[1].rows.index = {0, 1};
  ExpectRefused(envelope, "found 80 values of f32, 2 of them named");
  envelope.swaps[1].rows.index = {0, 1, 5};
  ExpectRefused(envelope, "swap 4: row index: expected 0 to 4, found 5");
  envelope.swaps[1].rows.index = {0, -1, 4};
  ExpectRefused(envelope, "found -1");
}

TEST(EnvelopeTest, RowsOfADeviceAreOfTheLinksMemoryInTheWiresDTypeAndWhole) {
  testing::TaggedDevice device;
  ASSERT_OK_AND_ASSIGN(const auto memory, RowMemory::Create(&device, 1 << 16));
  ASSERT_OK_AND_ASSIGN(const auto other, RowMemory::Create(&device, 1 << 16));
  ASSERT_OK_AND_ASSIGN(const auto fresh, memory->Take(10, 16, kernels::DType::kBF16));
  Envelope envelope = OneSwap(Good(), {fresh.block, {}});
  envelope.swaps[0].header.format.dtype = kernels::DType::kBF16;
  EXPECT_OK(Validate(envelope, 16, {}, memory.get()));
  EXPECT_THAT(Validate(envelope, 16, {}, other.get()),
              FailsWith(SwapReason::kInvalid, HasSubstr("found memory of tagged")));
  ExpectRefused(envelope, "expected host memory");
  envelope.swaps[0].rows.index = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  EXPECT_THAT(Validate(envelope, 16, {}, memory.get()),
              FailsWith(SwapReason::kInvalid, HasSubstr("all of the block")));
  envelope.swaps[0].rows.index.clear();
  envelope.swaps[0].header.format.dtype = kernels::DType::kF32;
  EXPECT_THAT(Validate(envelope, 16, {}, memory.get()),
              FailsWith(SwapReason::kInvalid, HasSubstr("[10, 16] f32")));
}

TEST(SwapBytesTest, CountsRowsBothWaysAndCapturedLayers) {
  SwapHeader header = MakeHeader(1, {{1, 0, 5, ReturnRows::kLast}, {2, 0, 2, ReturnRows::kAll}}, 8);
  EXPECT_EQ(SizeOf(header).sent, 7 * 8 * 4);
  EXPECT_EQ(SizeOf(header).returned, 3 * 8 * 4);
  header.format.dtype = kernels::DType::kBF16;
  EXPECT_EQ(SizeOf(header).sent, 7 * 8 * 2);
  LayerOf(header).capture_layers = true;
  EXPECT_EQ(SizeOf(header).returned, 3 * 8 * 2 + 2 * 7 * 8 * 4);
  EXPECT_EQ(SizeOf(header).total(), SizeOf(header).sent + SizeOf(header).returned);
}

TEST(SwapBytesTest, ADispatchSendsItsListsAndGetsBackARowForEachExpert) {
  SwapHeader header = MakeDispatch(1, {{0, 1, 2}, {5}}, 8);
  EXPECT_GE(SizeOf(header).sent, 2 * 8 * 4 + 4 * 5);
  EXPECT_EQ(SizeOf(header).returned, 4 * 8 * 4);
  FfnOf(header).combine = true;
  EXPECT_EQ(SizeOf(header).returned, 2 * 8 * 4);
}

TEST(SwapBytesTest, AnEnvelopeIsTheSumOfItsSwaps) {
  const Envelope envelope = Two();
  const SwapBytes bytes = SizeOf(envelope);
  EXPECT_EQ(bytes.sent, SizeOf(Good()).sent + SizeOf(Dispatch()).sent);
  EXPECT_EQ(bytes.returned, SizeOf(Good()).returned + SizeOf(Dispatch()).returned);
}

TEST(MaxRowsTest, AsManyRowsAsItSaysFitAndTheBoundIsNearlyUsed) {
  LinkBounds bounds;
  bounds.max_bytes = 100000;
  for (const bool combine : {false, true}) {
    const SwapForm form = {{16, kernels::DType::kF32}, 4, combine};
    const int64_t rows = MaxRows(form, bounds);
    const std::vector<std::vector<int32_t>> experts(rows, {0, 1, 2, 3});
    const SwapBytes bytes = SizeOf(MakeDispatch(1, experts, 16, combine));
    EXPECT_LE(bytes.sent, bounds.max_bytes);
    EXPECT_LE(bytes.returned, bounds.max_bytes);
    EXPECT_GT(std::max(bytes.sent, bytes.returned), bounds.max_bytes * 9 / 10);
  }
}

TEST(MaxRowsTest, RowsOfSequencesAreBoundByBytesOrByTheLimitOfRows) {
  EXPECT_EQ(MaxRows({{1024, kernels::DType::kF32}}, {65536, 40960}), 10);
  EXPECT_EQ(MaxRows({{1024, kernels::DType::kBF16}}, {65536, 40960}), 20);
  EXPECT_EQ(MaxRows({{1024, kernels::DType::kF32}}, {7}), 7);
  EXPECT_EQ(MaxRows({{1024, kernels::DType::kF32}}, {7, 100}), 0);
}

}  // namespace
}  // namespace ccoe::exchange
