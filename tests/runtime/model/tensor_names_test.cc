#include "runtime/model/tensor_names.h"

#include "gtest/gtest.h"

namespace ccoe::model {
namespace {

TEST(TensorNamesTest, WholeNamesAreMadeOfTheFamilysParts) {
  TensorNames names;
  EXPECT_EQ(LayerPrefix(names, 3) + WeightName(names.q), "model.layers.3.self_attn.q_proj.weight");
  EXPECT_EQ(ExpertPrefix(names, 3, 7) + WeightName(names.expert_up),
            "model.layers.3.mlp.experts.7.up_proj.weight");
  EXPECT_EQ(BiasName("a"), "a.bias");
  EXPECT_EQ(NormName(names, names.final_norm), "model.norm.weight");
  names.norm_suffix = ".scale";
  EXPECT_EQ(NormName(names, names.final_norm), "model.norm.scale");
}

TEST(TensorNamesTest, TheLayerOfATensorStandsBehindThePrefix) {
  TensorNames names;
  EXPECT_EQ(LayerOfTensor(names, "model.layers.12.mlp.gate.weight"), 12);
  EXPECT_EQ(LayerOfTensor(names, "model.layers.0"), 0);
  EXPECT_EQ(LayerOfTensor(names, "model.norm.weight"), std::nullopt);
  EXPECT_EQ(LayerOfTensor(names, "model.layers.x.mlp"), std::nullopt);
  EXPECT_EQ(LayerOfTensor(names, "model.layers.99999999999.mlp"), std::nullopt);
  names.layer_prefix = "transformer.decoder_layer.";
  EXPECT_EQ(LayerOfTensor(names, "transformer.decoder_layer.5.router.weight"), 5);
}

}  // namespace
}  // namespace ccoe::model
