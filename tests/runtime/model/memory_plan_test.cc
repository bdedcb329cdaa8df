// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/memory_plan.h"

#include <algorithm>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/model/decoder.h"
#include "runtime/model/families/hf_config.h"
#include "runtime/model/head.h"
#include "runtime/model/weights.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::model {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;

int64_t MostOut(const kernels::OpShapes& shapes, int64_t in) {
  int64_t most = 0;
  for (const auto& product : shapes.products) {
    if (product.in == in) most = std::max(most, product.out);
  }
  return most;
}

TEST(OpShapesTest, APassOfADenseModel) {
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, LoadModelSpec(testing::GoldenFolder("llama-gqa")));
  PassLimits limits;
  limits.rows = 100;
  limits.sequences = 20;
  limits.head_rows = 7;
  limits.tokens = 1000;
  limits.page_tokens = 16;
  const kernels::OpShapes shapes = ShapesOfPasses(spec, limits);
  const LayerSpec& layer = spec.layers[0];
  EXPECT_GE(MostOut(shapes, spec.hidden_size), 2 * layer.ffn.intermediate);
  EXPECT_GE(MostOut(shapes, spec.hidden_size), spec.vocab_size);
  EXPECT_GE(MostOut(shapes, layer.ffn.intermediate), spec.hidden_size);
  ASSERT_EQ(shapes.attentions.size(), spec.layers.size());
  EXPECT_EQ(shapes.attentions[0].rows, 100);
  EXPECT_EQ(shapes.attentions[0].tokens, std::min<int64_t>(1000, spec.max_positions));
  EXPECT_EQ(shapes.attentions[0].kv_heads, layer.attention.kv_heads);
  EXPECT_TRUE(shapes.experts.empty());
  EXPECT_EQ(shapes.sampled_rows, 7);
  EXPECT_EQ(shapes.captured_steps, 20);
}

TEST(OpShapesTest, HeadsOfLatentAttentionAreProductsOfTheirOwn) {
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, LoadModelSpec(testing::GoldenFolder("deepseek-v3")));
  const AttentionSpec& attention = spec.layers[0].attention;
  PassLimits limits;
  limits.rows = 10;
  const kernels::OpShapes shapes = ShapesOfPasses(spec, limits);
  ASSERT_EQ(shapes.head_products.size(), 2 * spec.layers.size());
  const auto& absorb = shapes.head_products[0];
  const auto& values = shapes.head_products[1];
  EXPECT_EQ(absorb.rows, 10);
  EXPECT_EQ(absorb.heads, attention.heads);
  EXPECT_EQ(absorb.in, attention.latent.nope_dim);
  EXPECT_EQ(absorb.out, attention.latent.kv_rank);
  EXPECT_EQ(values.in, attention.latent.kv_rank);
  EXPECT_EQ(values.out, attention.latent.value_dim);
}

TEST(OpShapesTest, ExpertsGetARowForEachExpertItGoesThrough) {
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, LoadModelSpec(testing::GoldenFolder("deepseek-v3")));
  PassLimits limits;
  limits.rows = 10;
  const kernels::OpShapes shapes = ShapesOfPasses(spec, limits);
  ASSERT_FALSE(shapes.experts.empty());
  const MoeSpec& moe = spec.layers.back().ffn.moe;
  EXPECT_EQ(shapes.experts.back().pairs, 10 * moe.gate.top_k);
  EXPECT_EQ(shapes.experts.back().intermediate, moe.intermediate);
  const kernels::OpShapes alone = ShapesOfExperts(spec, 33);
  EXPECT_EQ(alone.experts.size(), shapes.experts.size());
  EXPECT_EQ(alone.experts.back().rows, 33);
  EXPECT_EQ(alone.experts.back().pairs, 33);
  EXPECT_TRUE(alone.products.empty());
}

TEST(MemoryPlanTest, ASumThatDoesNotFitIsSpelledOut) {
  testing::TaggedDevice device(/*capacity_bytes=*/2'500'000'000);
  MemoryPlan plan;
  plan.Add("weights", 2'000'000'000);
  EXPECT_OK(plan.CheckFits(device));
  plan.Add("KV cache of 64 tokens", 1'000'000'000);
  EXPECT_THAT(plan.CheckFits(device),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("tagged:0: weights 2.00 GB + KV cache of 64 tokens 1.00 GB = "
                                 "3.00 GB: expected at most the 2.50 GB that are free")));
}

// Bound over a device that counts, a model asks for what it takes when it is loaded, and no tensor
// is copied.
TEST(MemoryPlanTest, ACountedModelIsTheLoadedOne) {
  for (const char* name : {"llama-gqa", "deepseek-v2"}) {
    const std::string folder = testing::GoldenFolder(name);
    ASSERT_OK_AND_ASSIGN(const ModelSpec spec, LoadModelSpec(folder));
    ASSERT_OK_AND_ASSIGN(const auto weights, Weights::Open(folder));
    const auto load = [&](const WeightTarget& target) -> absl::StatusOr<int64_t> {
      const auto placed = Weights::On(weights, target);
      absl::Status status = TokenEmbedding::Create(spec, placed).status();
      status.Update(Decoder::Create(spec, {0, spec.layer_count()}, placed).status());
      status.Update(LmHead::Create(spec, placed).status());
      if (!status.ok()) return status;
      return placed->device_bytes();
    };
    CountingDevice counting;
    WeightTarget counted;
    counted.device = &counting;
    counted.matrices = kernels::DType::kBF16;
    counted.fill = false;
    ASSERT_OK_AND_ASSIGN(const int64_t planned, load(counted));
    testing::TaggedDevice device;
    WeightTarget target;
    target.device = &device;
    target.matrices = kernels::DType::kBF16;
    ASSERT_OK_AND_ASSIGN(const int64_t taken, load(target));
    EXPECT_EQ(planned, taken) << name;
    EXPECT_GE(counting.counted_bytes(), taken) << name;
  }
}

TEST(DryRunOpsTest, TheirDeviceCountsAndNothingCanBeComputed) {
  CountingDevice device;
  const auto ops = MakeDryRunOps(&device);
  ASSERT_OK_AND_ASSIGN(const kernels::Buffer buffer, ops->device().Allocate(1000));
  EXPECT_EQ(device.counted_bytes(), 1024);
  EXPECT_OK(ops->Synchronize());
  EXPECT_DEATH(ops->AddRows({}, {}), "");
}

}  // namespace
}  // namespace ccoe::model
