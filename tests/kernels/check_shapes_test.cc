// SPDX-License-Identifier: Apache-2.0
#include "kernels/check_shapes.h"

#include <vector>

#include "gtest/gtest.h"

namespace ccoe::kernels {
namespace {

Matrix F32(int64_t rows, int64_t cols) {
  static float memory[4096];
  return F32Matrix(memory, rows, cols);
}

HeadLinearArgs Heads() {
  HeadLinearArgs args;
  args.heads = 3;
  args.x = {F32(2, 8).data, DType::kF32, 2, 4, 12};
  args.x_step = 4;
  args.weight = F32(5, 4);
  args.weight_step = 5;
  args.out = {F32(2, 5).data, DType::kF32, 2, 5, 15};
  args.out_step = 5;
  return args;
}

TEST(CheckShapesTest, HeadsLieApartAndWithinTheirRows) {
  CheckShapes(Heads());
  HeadLinearArgs args = Heads();
  args.x_step = 0;
  CheckShapes(args);
  args = Heads();
  args.x_step = 5;
  EXPECT_DEATH(CheckShapes(args), "x_step");
  args = Heads();
  args.weight_step = 4;
  EXPECT_DEATH(CheckShapes(args), "weight_step");
  args = Heads();
  args.out.stride = 14;
  EXPECT_DEATH(CheckShapes(args), "out_step");
  args = Heads();
  args.weight.cols = 3;
  EXPECT_DEATH(CheckShapes(args), "weight.cols");
}

TEST(CheckShapesTest, AnglesAreOfPositionsThatAreNotNegative) {
  const std::vector<float> frequencies(3, 1.0f);
  std::vector<int64_t> positions = {0, 7};
  const RopeAnglesArgs args{positions, frequencies, 1.0f, F32(2, 3), F32(2, 3)};
  CheckShapes(args);
  RopeAnglesArgs wrong = args;
  wrong.sin = F32(2, 2);
  EXPECT_DEATH(CheckShapes(wrong), "IsF32");
  positions[1] = -1;
  EXPECT_DEATH(CheckShapes(args), "position");
}

KvLayer Cache() {
  KvLayer cache;
  cache.k = F32(1, 1).data;
  cache.v = static_cast<float*>(cache.k) + 1;
  cache.pages = 2;
  cache.page_tokens = 4;
  cache.kv_heads = 2;
  cache.head_dim = 6;
  return cache;
}

TEST(CheckShapesTest, KeysGoToSlotsThatTheCacheHas) {
  std::vector<int64_t> slots = {7};
  RopeAndAppendKvArgs args;
  args.q = F32(1, 24);
  args.k = F32(1, 12);
  args.cos = F32(1, 3);
  args.sin = F32(1, 3);
  args.slots = slots;
  args.cache = Cache();
  EXPECT_DEATH(CheckShapes(args), "args.v.empty");  // values have a place of their own
  args.cache.v = args.cache.k;
  CheckShapes(args);
  slots[0] = 8;
  EXPECT_DEATH(CheckShapes(args), "slot");
  slots[0] = 0;
  args.cos = args.sin = F32(1, 4);
  EXPECT_DEATH(CheckShapes(args), "head_dim");
}

TEST(CheckShapesTest, AttentionSeesTokensThatTheBlockTableNames) {
  const std::vector<int32_t> table = {0, 1};
  std::vector<SequenceRows> sequences = {{0, 2, 6, table}};
  PagedAttentionArgs args;
  args.q = args.out = F32(2, 24);
  args.heads = 4;
  args.cache = Cache();
  args.sequences = sequences;
  CheckShapes(args);
  sequences[0].first_position = 7;
  EXPECT_DEATH(CheckShapes(args), "tokens");
  sequences[0] = {1, 2, 0, table};
  EXPECT_DEATH(CheckShapes(args), "row_count");
}

TEST(CheckShapesTest, AGateChoosesAmongWholeGroups) {
  TopKGateArgs args;
  args.logits = F32(2, 6);
  args.form.top_k = 2;
  args.form.groups = 3;
  CheckShapes(args);
  args.form.groups = 4;
  EXPECT_DEATH(CheckShapes(args), "groups");
  args.form.groups = 1;
  const std::vector<int32_t> row_k = {2, 3};
  args.row_k = row_k;
  EXPECT_DEATH(CheckShapes(args), "top_k");
}

TEST(CheckShapesTest, PairsNameRowsThatAreThere) {
  const std::vector<ExpertGroup> groups = {{F32(3, 4), F32(3, 4), F32(4, 3), 0, 2}};
  std::vector<int32_t> rows = {0, 1};
  const std::vector<float> weights = {1, 1};
  GroupedFfnArgs args;
  args.x = args.out = F32(2, 4);
  args.groups = groups;
  args.x_rows = args.out_rows = rows;
  args.weights = weights;
  CheckShapes(args);
  rows[1] = 2;
  EXPECT_DEATH(CheckShapes(args), "x_rows");
  rows[1] = 1;
  args.weights = {};
  EXPECT_DEATH(CheckShapes(args), "weights");
}

}  // namespace
}  // namespace ccoe::kernels
