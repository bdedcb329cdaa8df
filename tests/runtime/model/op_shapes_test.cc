#include "runtime/model/op_shapes.h"

#include <algorithm>

#include "gtest/gtest.h"
#include "runtime/model/families/hf_config.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

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

}  // namespace
}  // namespace ccoe::model
