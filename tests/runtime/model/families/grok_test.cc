#include <map>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/model/decoder.h"
#include "runtime/model/families/families.h"
#include "runtime/model/families/hf_config.h"
#include "runtime/model/head.h"
#include "runtime/model/safetensors.h"
#include "runtime/model/weights.h"
#include "tests/runtime/model/families/minimal_config.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::model {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

void ExpectGrokMaths(const ModelSpec& spec, kernels::Activation activation) {
  EXPECT_OK(Validate(spec));
  EXPECT_EQ(spec.embedding_multiplier, 78.5f);
  EXPECT_EQ(spec.logit_multiplier, 0.5f);
  EXPECT_TRUE(spec.tied_head);
  EXPECT_FLOAT_EQ(spec.norm_eps, 1e-5f);
  for (const LayerSpec& layer : spec.layers) {
    EXPECT_TRUE(layer.post_norms);
    EXPECT_EQ(layer.attention.scale, 0.25f);
    EXPECT_EQ(layer.attention.soft_cap, 30.0f);
    EXPECT_EQ(layer.ffn.activation, activation);
    EXPECT_EQ(layer.ffn.moe.intermediate, 64);
    EXPECT_EQ(layer.ffn.moe.gate.top_k, 2);
    EXPECT_FALSE(layer.ffn.moe.gate.renormalize);
  }
}

TEST(GrokTest, TheReleaseHasFourNormsMultipliersAndTheTanhFormOfGelu) {
  const nlohmann::json object = MinimalGrok("num_local_experts");
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseGrok(ConfigReader(object)));
  ExpectGrokMaths(spec, kernels::Activation::kGeluTanh);
  EXPECT_EQ(spec.names.embedding, "transformer.in_out_embed");
  EXPECT_EQ(spec.names.norm_suffix, ".weight");
  EXPECT_EQ(spec.names.ffn_post_norm, "rms_norm_3");
}

TEST(GrokTest, ThePortHasOtherNamesAndTheExactFormOfGelu) {
  const nlohmann::json object = MinimalGrok("num_experts");
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseGrokPort(ConfigReader(object)));
  ExpectGrokMaths(spec, kernels::Activation::kGeluErf);
  EXPECT_EQ(spec.names.embedding, "model.embed_tokens");
  EXPECT_EQ(spec.names.norm_suffix, ".scale");
  EXPECT_EQ(spec.names.attention_norm, "pre_attn_norm");
  EXPECT_EQ(spec.names.expert_prefix, "moe_block.experts.");
}

// A name of the release's layout in the port's.
std::string PortName(std::string name) {
  const std::vector<std::pair<std::string, std::string>> parts = {
      {"transformer.in_out_embed.", "model.embed_tokens."},
      {"transformer.rms_norm.weight", "model.norm.scale"},
      {"transformer.decoder_layer.", "model.layers."},
      {".rms_norm.weight", ".pre_attn_norm.scale"},
      {".rms_norm_1.weight", ".post_attn_norm.scale"},
      {".rms_norm_2.weight", ".pre_moe_norm.scale"},
      {".rms_norm_3.weight", ".post_moe_norm.scale"},
      {".multi_head_attention.query.", ".attn.q_proj."},
      {".multi_head_attention.key.", ".attn.k_proj."},
      {".multi_head_attention.value.", ".attn.v_proj."},
      {".multi_head_attention.linear.", ".attn.o_proj."},
      {".router.", ".moe_block.gate."},
      {".moe.", ".moe_block.experts."}};
  for (const auto& [from, to] : parts) {
    const size_t at = name.find(from);
    if (at != std::string::npos) name.replace(at, from.size(), to);
  }
  return name;
}

TEST(GrokTest, ACheckpointInEitherLayoutIsTheSameModel) {
  const std::string source = testing::GoldenFolder("grok1");
  const testing::TempFolder folder;
  ASSERT_OK_AND_ASSIGN(const auto release, SafetensorsFile::Open(source + "/model.safetensors"));
  std::map<std::string, TensorView> renamed;
  for (const auto& [name, view] : release->tensors()) renamed[PortName(name)] = view;
  ASSERT_OK(WriteSafetensors(folder / "model.safetensors", renamed));
  ASSERT_OK_AND_ASSIGN(nlohmann::json config, ReadJsonFile(source + "/config.json", 100'000));
  config["architectures"] = {"Grok1ModelForCausalLM"};
  config["model_type"] = "grok-1";
  const std::string text = config.dump();
  ASSERT_OK(WriteFileAtomically(folder / "config.json", {text}));

  ASSERT_OK_AND_ASSIGN(const ModelSpec port, LoadModelSpec(folder.path()));
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, LoadModelSpec(source));
  EXPECT_EQ(MathsText(port), MathsText(spec));
  ASSERT_OK_AND_ASSIGN(const auto weights, Weights::Open(folder.path()));
  EXPECT_OK(Decoder::Create(port, {0, port.layer_count()}, weights));
  EXPECT_OK(LmHead::Create(port, weights));
}

TEST(GrokTest, TheConfigMayNameTheActivationAndUntieTheHead) {
  nlohmann::json object = MinimalGrok("num_local_experts");
  object["hidden_act"] = "gelu";
  object["tie_word_embeddings"] = false;
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseGrok(ConfigReader(object)));
  EXPECT_EQ(spec.layers[0].ffn.activation, kernels::Activation::kGeluErf);
  EXPECT_FALSE(spec.tied_head);
}

TEST(GrokTest, EveryMultiplierIsRequired) {
  for (const char* key : {"embedding_multiplier_scale", "output_multiplier_scale",
                          "attn_output_multiplier", "max_attn_value"}) {
    for (const nlohmann::json& value : {nlohmann::json(), nlohmann::json(0), nlohmann::json("1")}) {
      EXPECT_THAT(ParseWith(ParseGrok, MinimalGrok("num_local_experts"), key, value),
                  StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(key)));
    }
  }
}

}  // namespace
}  // namespace ccoe::model
