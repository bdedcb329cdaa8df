#include "gmock/gmock.h"
#include "runtime/model/families/families.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

nlohmann::json Minimal() {
  return {{"vocab_size", 100},
          {"hidden_size", 32},
          {"num_attention_heads", 4},
          {"intermediate_size", 64},
          {"num_hidden_layers", 3}};
}

TEST(LlamaTest, BiasesAreOffUnlessTheConfigSaysSo) {
  nlohmann::json object = Minimal();
  ASSERT_OK_AND_ASSIGN(const ModelSpec plain, ParseLlama(ConfigReader(object)));
  EXPECT_FALSE(plain.layers[0].attention.qkv_bias);
  EXPECT_FALSE(plain.layers[0].attention.output_bias);
  EXPECT_FALSE(plain.layers[0].ffn.bias);
  object["attention_bias"] = true;
  object["mlp_bias"] = true;
  ASSERT_OK_AND_ASSIGN(const ModelSpec biased, ParseLlama(ConfigReader(object)));
  EXPECT_TRUE(biased.layers[2].attention.qkv_bias);
  EXPECT_TRUE(biased.layers[2].attention.output_bias);
  EXPECT_TRUE(biased.layers[2].ffn.bias);
}

TEST(LlamaTest, TheHeadMayBeTiedAndHeadDimOfItsOwn) {
  nlohmann::json object = Minimal();
  object["tie_word_embeddings"] = true;
  object["head_dim"] = 64;
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseLlama(ConfigReader(object)));
  EXPECT_TRUE(spec.tied_head);
  EXPECT_EQ(spec.layers[0].attention.head_dim, 64);
  EXPECT_EQ(spec.layers[0].attention.scale, 0.125f);
}

}  // namespace
}  // namespace ccoe::model
