// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/families/moe.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/model/decoder.h"
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

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;

absl::StatusOr<MoeSpec> Parse(const nlohmann::json& object) {
  return ParseMoe(ConfigReader(object), "num_experts", "moe_intermediate_size");
}

TEST(MoeConfigTest, AnyOfTheThreeKeysNamesTheNumberOfExperts) {
  for (const char* key : {"num_experts", "num_local_experts", "n_routed_experts"}) {
    ASSERT_OK_AND_ASSIGN(const MoeSpec moe, Parse(MinimalMoe(key)));
    EXPECT_EQ(moe.experts, 8) << key;
    EXPECT_EQ(moe.intermediate, 16);
    EXPECT_EQ(moe.gate.top_k, 2);
  }
  nlohmann::json both = MinimalMoe("num_experts");
  both["n_routed_experts"] = 8;
  EXPECT_OK(Parse(both));
  both["n_routed_experts"] = 7;
  EXPECT_THAT(Parse(both), StatusIs(absl::StatusCode::kInvalidArgument,
                                    AllOf(HasSubstr("key n_routed_experts"),
                                          HasSubstr("the key num_experts says, 8, found 7"))));
}

TEST(MoeConfigTest, EverySizeIsRequiredAndBounded) {
  for (const char* key : {"num_experts", "num_experts_per_tok", "moe_intermediate_size"}) {
    for (const nlohmann::json& value :
         {nlohmann::json(), nlohmann::json(0), nlohmann::json(-1), nlohmann::json(INT64_MAX),
          nlohmann::json("2"), nlohmann::json(2.0)}) {
      nlohmann::json object = MinimalMoe("num_experts");
      object[key] = value;
      EXPECT_THAT(Parse(object), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(key)))
          << value;
    }
  }
}

TEST(MoeConfigTest, MoreChosenExpertsThanThereAreIsAnErrorThatNamesBothKeys) {
  nlohmann::json object = MinimalMoe("n_routed_experts");
  object["num_experts_per_tok"] = 9;
  EXPECT_THAT(Parse(object),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("num_experts_per_tok: expected at most n_routed_experts, 8")));
}

class SparseLayersTest : public ::testing::Test {
 protected:
  // "d" for a dense layer, "m" for one with experts.
  absl::StatusOr<std::string> Layers(const std::string& text) {
    const nlohmann::json object = nlohmann::json::parse(text);
    ModelSpec spec;
    spec.layers.resize(6);
    const absl::Status status = SetSparseLayers(ConfigReader(object), MoeSpec{}, spec);
    if (!status.ok()) return status;
    std::string kinds;
    for (const LayerSpec& layer : spec.layers) kinds += layer.ffn.is_moe() ? 'm' : 'd';
    return kinds;
  }
};

TEST_F(SparseLayersTest, StepAndListDecide) {
  EXPECT_EQ(*Layers("{}"), "mmmmmm");
  EXPECT_EQ(*Layers(R"({"mlp_only_layers": null})"), "mmmmmm");
  EXPECT_EQ(*Layers(R"({"decoder_sparse_step": 2})"), "dmdmdm");
  EXPECT_EQ(*Layers(R"({"mlp_only_layers": [0, 5, 5]})"), "dmmmmd");
  EXPECT_EQ(*Layers(R"({"decoder_sparse_step": 3, "mlp_only_layers": [2]})"), "dddddm");
  EXPECT_EQ(*Layers(R"({"decoder_sparse_step": 7})"), "dddddd");
}

TEST_F(SparseLayersTest, WhatDoesNotFitIsNamed) {
  const auto bad = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(Layers(R"({"decoder_sparse_step": 0})"),
              StatusIs(bad, HasSubstr("decoder_sparse_step")));
  EXPECT_THAT(Layers(R"({"mlp_only_layers": [6]})"), StatusIs(bad, HasSubstr("0 to 5")));
  EXPECT_THAT(Layers(R"({"mlp_only_layers": 3})"), StatusIs(bad, HasSubstr("mlp_only_layers")));
}

constexpr char kKey[] = "num_local_experts";

TEST(MixtralTest, EveryLayerHasExpertsChosenBySoftmaxAndRenormalised) {
  const nlohmann::json object = MinimalMoe(kKey);
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseMixtral(ConfigReader(object)));
  EXPECT_OK(Validate(spec));
  for (const LayerSpec& layer : spec.layers) {
    ASSERT_TRUE(layer.ffn.is_moe());
    EXPECT_EQ(layer.ffn.activation, kernels::Activation::kSilu);
    EXPECT_EQ(layer.ffn.moe.experts, 8);
    EXPECT_EQ(layer.ffn.moe.intermediate, 64);
    EXPECT_EQ(layer.ffn.moe.gate.top_k, 2);
    EXPECT_EQ(layer.ffn.moe.gate.score, kernels::RouterScore::kSoftmax);
    EXPECT_TRUE(layer.ffn.moe.gate.renormalize);
    EXPECT_EQ(layer.ffn.moe.gate.scale, 1.0f);
    EXPECT_EQ(layer.ffn.moe.shared, SharedExpert::kNone);
    EXPECT_EQ(layer.attention.sliding_window, 0);
  }
  EXPECT_EQ(spec.rope.theta, 1e6);
  EXPECT_FLOAT_EQ(spec.norm_eps, 1e-5f);
  EXPECT_EQ(spec.names.router, "block_sparse_moe.gate");
  EXPECT_EQ(spec.names.expert_prefix, "block_sparse_moe.experts.");
  EXPECT_EQ(spec.names.expert_gate + spec.names.expert_up + spec.names.expert_down, "w1w3w2");
}

TEST(MixtralTest, TheWindowIsANumberOrNone) {
  nlohmann::json object = MinimalMoe(kKey);
  object["sliding_window"] = nullptr;
  EXPECT_EQ(ParseMixtral(ConfigReader(object))->layers[3].attention.sliding_window, 0);
  object["sliding_window"] = 12;
  EXPECT_EQ(ParseMixtral(ConfigReader(object))->layers[3].attention.sliding_window, 12);
  EXPECT_THAT(ParseWith(ParseMixtral, object, "sliding_window", 0),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("sliding_window")));
}

TEST(MixtralTest, ContradictionsAndQuantizationAreNamed) {
  const auto bad = absl::StatusCode::kInvalidArgument;
  const nlohmann::json object = MinimalMoe(kKey);
  EXPECT_THAT(ParseWith(ParseMixtral, object, "num_experts_per_tok", 9),
              StatusIs(bad, HasSubstr("key num_experts_per_tok: expected at most "
                                      "num_local_experts, 8, found 9")));
  EXPECT_THAT(ParseWith(ParseMixtral, object, "num_local_experts", nullptr),
              StatusIs(bad, AllOf(HasSubstr("num_local_experts"), HasSubstr("nothing"))));
  EXPECT_THAT(ParseWith(ParseMixtral, object, "quantization_config", {{"bits", 4}}),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("quantization_config")));
}

TEST(OlmoeTest, QueriesAndKeysAreNormedWholeAndWeightsNotRenormalised) {
  const nlohmann::json object = MinimalMoe("num_experts");
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseOlmoe(ConfigReader(object)));
  EXPECT_OK(Validate(spec));
  EXPECT_FLOAT_EQ(spec.norm_eps, 1e-5f);
  for (const LayerSpec& layer : spec.layers) {
    EXPECT_EQ(layer.attention.qk_norm, QkNorm::kWholeProjection);
    EXPECT_EQ(layer.attention.clip_qkv, 0.0f);
    EXPECT_FALSE(layer.attention.qkv_bias);
    EXPECT_EQ(layer.ffn.moe.intermediate, 64);
    EXPECT_FALSE(layer.ffn.moe.gate.renormalize);
  }
}

TEST(OlmoeTest, ClipsNormalisesAndHasBiasesWhereTheConfigSaysSo) {
  nlohmann::json object = MinimalMoe("num_experts");
  object["clip_qkv"] = 8;
  object["norm_topk_prob"] = true;
  object["attention_bias"] = true;
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseOlmoe(ConfigReader(object)));
  EXPECT_EQ(spec.layers[3].attention.clip_qkv, 8.0f);
  EXPECT_TRUE(spec.layers[3].attention.qkv_bias);
  EXPECT_TRUE(spec.layers[3].attention.output_bias);
  EXPECT_TRUE(spec.layers[3].ffn.moe.gate.renormalize);
  EXPECT_THAT(ParseWith(ParseOlmoe, object, "clip_qkv", -1),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("clip_qkv")));
}

TEST(Qwen2MoeTest, AGatedSharedExpertStandsBesideTheOthers) {
  nlohmann::json object = MinimalMoe("num_experts");
  object["shared_expert_intermediate_size"] = 24;
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseQwen2Moe(ConfigReader(object)));
  EXPECT_OK(Validate(spec));
  for (const LayerSpec& layer : spec.layers) {
    EXPECT_TRUE(layer.attention.qkv_bias);
    EXPECT_FALSE(layer.attention.output_bias);
    EXPECT_EQ(layer.ffn.moe.shared, SharedExpert::kSigmoidGated);
    EXPECT_EQ(layer.ffn.moe.shared_intermediate, 24);
    EXPECT_EQ(layer.ffn.moe.intermediate, 16);
    EXPECT_FALSE(layer.ffn.moe.gate.renormalize);
  }
  EXPECT_EQ(spec.names.shared_prefix, "mlp.shared_expert.");
  EXPECT_EQ(spec.names.shared_gate, "mlp.shared_expert_gate");
  object["shared_expert_intermediate_size"] = 0;
  object["qkv_bias"] = false;
  ASSERT_OK_AND_ASSIGN(const ModelSpec plain, ParseQwen2Moe(ConfigReader(object)));
  EXPECT_EQ(plain.layers[0].ffn.moe.shared, SharedExpert::kNone);
  EXPECT_FALSE(plain.layers[0].attention.qkv_bias);
}

TEST(Qwen2MoeTest, SomeLayersStayDense) {
  nlohmann::json object = MinimalMoe("num_experts");
  object["decoder_sparse_step"] = 2;
  object["mlp_only_layers"] = {3};
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseQwen2Moe(ConfigReader(object)));
  EXPECT_OK(Validate(spec));
  EXPECT_FALSE(spec.layers[0].ffn.is_moe());
  EXPECT_EQ(spec.layers[0].ffn.intermediate, 64);
  EXPECT_TRUE(spec.layers[1].ffn.is_moe());
  EXPECT_FALSE(spec.layers[2].ffn.is_moe());
  EXPECT_FALSE(spec.layers[3].ffn.is_moe());
}

TEST(Qwen2MoeTest, AWindowNeedsTheListOfLayers) {
  nlohmann::json object = MinimalMoe("num_experts");
  object["sliding_window"] = 8;
  object["max_window_layers"] = 2;
  EXPECT_EQ(ParseQwen2Moe(ConfigReader(object))->layers[3].attention.sliding_window, 0);
  object["use_sliding_window"] = true;
  EXPECT_THAT(ParseQwen2Moe(ConfigReader(object)),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("layer_types")));
  object["layer_types"] = {"full_attention", "sliding_attention", "full_attention",
                           "full_attention"};
  EXPECT_EQ(ParseQwen2Moe(ConfigReader(object))->layers[1].attention.sliding_window, 8);
  EXPECT_EQ(ParseQwen2Moe(ConfigReader(object))->layers[2].attention.sliding_window, 0);
}

TEST(Qwen3MoeTest, HeadsAreNormedAndNothingIsShared) {
  nlohmann::json object = MinimalMoe("num_experts");
  ASSERT_OK_AND_ASSIGN(const ModelSpec plain, ParseQwen3Moe(ConfigReader(object)));
  EXPECT_FALSE(plain.layers[0].ffn.moe.gate.renormalize);
  object["norm_topk_prob"] = true;
  object["head_dim"] = 16;
  object["attention_bias"] = true;
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseQwen3Moe(ConfigReader(object)));
  EXPECT_OK(Validate(spec));
  for (const LayerSpec& layer : spec.layers) {
    EXPECT_EQ(layer.attention.qk_norm, QkNorm::kPerHead);
    EXPECT_EQ(layer.attention.head_dim, 16);
    EXPECT_TRUE(layer.attention.qkv_bias);
    EXPECT_TRUE(layer.attention.output_bias);
    EXPECT_TRUE(layer.ffn.moe.gate.renormalize);
    EXPECT_EQ(layer.ffn.moe.shared, SharedExpert::kNone);
  }
}

TEST(Qwen3MoeTest, BothNamesOfTheNumberOfExpertsAreReadAndMustAgree) {
  nlohmann::json object = MinimalMoe("num_local_experts");
  EXPECT_EQ(ParseQwen3Moe(ConfigReader(object))->layers[0].ffn.moe.experts, 8);
  object["num_experts"] = 9;
  EXPECT_THAT(ParseQwen3Moe(ConfigReader(object)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("key num_experts: expected what the key num_local_experts says, "
                                 "8, found 9")));
}

TEST(Qwen3MoeTest, AWindowThatIsUsedHoldsInAllLayers) {
  nlohmann::json object = MinimalMoe("num_experts");
  object["sliding_window"] = 8;
  EXPECT_EQ(ParseQwen3Moe(ConfigReader(object))->layers[0].attention.sliding_window, 0);
  object["use_sliding_window"] = true;
  EXPECT_EQ(ParseQwen3Moe(ConfigReader(object))->layers[0].attention.sliding_window, 8);
  EXPECT_EQ(ParseQwen3Moe(ConfigReader(object))->layers[3].attention.sliding_window, 8);
  EXPECT_THAT(ParseWith(ParseQwen3Moe, object, "sliding_window", nullptr),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("sliding_window")));
}

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
  EXPECT_EQ(FingerprintText(port), FingerprintText(spec));
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
