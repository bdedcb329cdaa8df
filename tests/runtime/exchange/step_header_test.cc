#include "runtime/exchange/step_header.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::exchange {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

StepHeader Good() {
  StepHeader header;
  header.step_id = 3;
  header.expert = {"math", 2};
  header.layers = {6, 8};
  header.hidden_size = 16;
  header.sequences = {
      {1, 0, 5, ReturnRows::kLast}, {2, 9, 3, ReturnRows::kAll}, {7, 4, 2, ReturnRows::kNone}};
  return header;
}

void ExpectRefused(const StepHeader& header, const char* message, const StepLimits& limits = {}) {
  EXPECT_THAT(Validate(header, 16, limits),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
}

TEST(StepHeaderTest, CountsRowsSentAndRowsComingBack) {
  EXPECT_EQ(Good().rows(), 10);
  EXPECT_EQ(Good().returned_rows(), 4);
  EXPECT_EQ(StepHeader().rows(), 0);
}

TEST(StepHeaderTest, AcceptsAGoodHeader) {
  EXPECT_OK(Validate(Good(), 16));
  StepHeader header = Good();
  header.wire_dtype = kernels::DType::kBF16;
  EXPECT_OK(Validate(header, 16));
}

TEST(StepHeaderTest, RefusesWrongScalarsAndNamesThem) {
  StepHeader header = Good();
  header.expert.name.clear();
  ExpectRefused(header, "expert: expected a name");
  header = Good();
  header.expert.version = 0;
  ExpectRefused(header, "expert version: expected 1 or more, found 0");
  header = Good();
  header.layers = {4, 4};
  ExpectRefused(header, "layers: expected 0 <= first < last, found [4, 4)");
  header.layers = {-1, 4};
  ExpectRefused(header, "found [-1, 4)");
  header = Good();
  header.hidden_size = 32;
  ExpectRefused(header, "hidden_size: expected 16, found 32");
  header = Good();
  header.wire_dtype = kernels::DType::kF16;
  ExpectRefused(header, "wire_dtype: expected f32 or bf16, found f16");
}

TEST(StepHeaderTest, RefusesSequencesThatMakeNoSense) {
  StepHeader header = Good();
  header.sequences.clear();
  ExpectRefused(header, "sequences: expected 1 to 4096, found 0");
  header = Good();
  header.sequences[1].row_count = 0;
  ExpectRefused(header, "sequence 2 row_count: expected 1 to 65536, found 0");
  header.sequences[1].row_count = std::numeric_limits<int64_t>::max();
  ExpectRefused(header, "sequence 2 row_count");
  header = Good();
  header.sequences[0].first_position = -1;
  ExpectRefused(header, "sequence 1 first_position");
  header.sequences[0].first_position = std::numeric_limits<int64_t>::max();
  ExpectRefused(header, "sequence 1 first_position");
  header = Good();
  header.sequences[2].sequence_id = 1;
  ExpectRefused(header, "sequence 1 twice");
  header = Good();
  header.sequences[2].return_rows = static_cast<ReturnRows>(9);
  ExpectRefused(header, "return_rows: expected none, last or all, found 9");
}

TEST(StepHeaderTest, HoldsSumsToTheLimits) {
  StepLimits limits;
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
StepHeader Dispatch() {
  StepHeader header;
  header.step_id = 4;
  header.hidden_size = 16;
  FfnDispatch& ffn = header.ffn.emplace();
  ffn.layer = 5;
  ffn.offsets = {0, 2, 3, 6};
  ffn.experts = {0, 9, 4, 1, 2, 3};
  ffn.weights = {0.5f, 0.25f, 1.0f, -0.0f, 2.0f, 1e-30f};
  return header;
}

TEST(StepHeaderTest, ADispatchReturnsARowForEachExpertUnlessItIsCombined) {
  StepHeader header = Dispatch();
  EXPECT_OK(Validate(header, 16));
  EXPECT_EQ(header.rows(), 3);
  EXPECT_EQ(header.returned_rows(), 6);
  header.ffn->combine = true;
  EXPECT_OK(Validate(header, 16));
  EXPECT_EQ(header.returned_rows(), 3);
  EXPECT_EQ(FfnDispatch().rows(), 0);
}

TEST(StepHeaderTest, RefusesDispatchesWhoseListsContradictEachOther) {
  StepHeader header = Dispatch();
  header.ffn->offsets.clear();
  ExpectRefused(header, "dispatch rows: expected 1 to 65536, found 0");
  header.ffn->offsets = {0};
  ExpectRefused(header, "dispatch rows");
  header = Dispatch();
  header.ffn->offsets[0] = 1;
  ExpectRefused(header, "dispatch offsets: expected 0 first, found 1");
  header = Dispatch();
  header.ffn->offsets[2] = 2;
  ExpectRefused(header, "dispatch row 1: expected 1 to 1024 experts, found 0");
  header.ffn->offsets = {0, std::numeric_limits<int32_t>::max(),
                         std::numeric_limits<int32_t>::min(), 6};
  ExpectRefused(header, "dispatch row 0: expected 1 to 1024 experts, found 2147483647");
  header = Dispatch();
  header.ffn->offsets[3] = 5;
  ExpectRefused(header, "dispatch: expected 5 experts and as many weights, found 6 and 6");
  header = Dispatch();
  header.ffn->weights.pop_back();
  ExpectRefused(header, "expected 6 experts and as many weights, found 6 and 5");
}

TEST(StepHeaderTest, RefusesExpertsThatDoNotRiseAndWeightsThatAreNotFinite) {
  StepHeader header = Dispatch();
  header.ffn->experts[4] = 1;
  ExpectRefused(header, "dispatch row 2: expected experts that rise from 0, found 1 after 1");
  header = Dispatch();
  header.ffn->experts[2] = -1;
  ExpectRefused(header, "dispatch row 1: expected experts that rise from 0, found -1");
  header = Dispatch();
  header.ffn->weights[1] = std::numeric_limits<float>::quiet_NaN();
  ExpectRefused(header, "dispatch row 0 expert 9: expected a finite weight, found nan");
  header.ffn->weights[1] = std::numeric_limits<float>::infinity();
  ExpectRefused(header, "found inf");
}

TEST(StepHeaderTest, HoldsDispatchesToTheLimits) {
  StepLimits limits;
  limits.max_rows = 2;
  ExpectRefused(Dispatch(), "dispatch rows: expected 1 to 2, found 3", limits);
  limits = {};
  limits.max_experts_per_row = 2;
  ExpectRefused(Dispatch(), "dispatch row 2: expected 1 to 2 experts, found 3", limits);
  StepHeader header = Dispatch();
  header.ffn->layer = -1;
  ExpectRefused(header, "dispatch layer: expected 0 or more, found -1");
  header = Dispatch();
  header.hidden_size = 8;
  ExpectRefused(header, "hidden_size");
  header = Dispatch();
  header.capture_layers = true;
  ExpectRefused(header, "no sequences and no capture_layers beside it");
  header = Dispatch();
  header.sequences = {{1, 0, 1}};
  ExpectRefused(header, "found 1 sequences");
}

}  // namespace
}  // namespace ccoe::exchange
