#include "runtime/experts/unit_host_options.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/reference_model.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::experts {
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
