#include "gtest/gtest.h"
#include "runtime/model/moe.h"
#include "tests/testing/reference_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::model {
namespace {

constexpr int64_t kRows = 7;

TEST(MoeScratchTest, WhatWasReservedIsRoomForPassesUpToThat) {
  testing::TaggedDevice device;
  const ModelSpec spec = testing::TinyMoeSpec();
  MoeScratch scratch(&device);
  ASSERT_OK(scratch.Reserve(spec, kRows));
  device.ForbidAllocation();
  for (int64_t rows = 1; rows <= kRows; ++rows) ASSERT_OK(scratch.Reserve(spec, rows));
  for (const LayerSpec& layer : spec.layers) {
    if (!layer.ffn.is_moe()) continue;
    const MoeSpec& moe = layer.ffn.moe;
    const size_t pair_bytes = kRows * moe.gate.top_k * sizeof(float);
    EXPECT_GE(scratch.logits.size_bytes(), kRows * moe.experts * sizeof(float));
    EXPECT_GE(scratch.contributions.size_bytes(), pair_bytes * spec.hidden_size);
    EXPECT_GE(scratch.gate.size_bytes(), pair_bytes * moe.intermediate);
    EXPECT_GE(scratch.up.size_bytes(), kRows * moe.shared_intermediate * sizeof(float));
  }
}

TEST(MoeScratchTest, AModelWithoutFfnExpertsTakesNothing) {
  testing::TaggedDevice device;
  MoeScratch scratch(&device);
  ASSERT_OK(scratch.Reserve(testing::TinySpec(), kRows));
  EXPECT_EQ(device.taken_bytes(), 0);
}

TEST(MoeScratchTest, ADeviceThatIsTooSmallSaysSo) {
  testing::TaggedDevice device(/*capacity_bytes=*/4096);
  MoeScratch scratch(&device);
  EXPECT_THAT(scratch.Reserve(testing::TinyMoeSpec(), 100000),
              testing::StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace ccoe::model
