// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/unread_tensors.h"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/decoder.h"
#include "runtime/model/families/hf_config.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/reference_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::model {
namespace {

using kernels::DType;
using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::GoldenFolder;
using ::testing::HasSubstr;
using testing::StatusIs;
using testing::TempFolder;

constexpr float kValues[4] = {1, 2, 3, 4};

using Tensors = std::map<std::string, TensorView>;

// A golden model with another config and other tensors.
struct Changed {
  std::function<void(nlohmann::json&)> config;
  std::function<void(Tensors&)> tensors;
};

absl::StatusOr<UnreadTensors> FindIn(const std::string& model, const Changed& changed) {
  const TempFolder folder;
  CCOE_ASSIGN_OR_RETURN(nlohmann::json config,
                        ReadJsonFile(GoldenFolder(model) + "/config.json", 1'000'000));
  if (changed.config) changed.config(config);
  CCOE_RETURN_IF_ERROR(WriteFileAtomically(folder / "config.json", {config.dump()}));
  CCOE_ASSIGN_OR_RETURN(const auto source, Weights::Open(GoldenFolder(model)));
  Tensors tensors;
  for (const std::string& name : source->Names()) {
    CCOE_ASSIGN_OR_RETURN(tensors[name], source->Raw(name));
  }
  if (changed.tensors) changed.tensors(tensors);
  CCOE_RETURN_IF_ERROR(WriteSafetensors(folder / "model.safetensors", tensors));
  CCOE_ASSIGN_OR_RETURN(const ModelSpec spec, LoadModelSpec(folder.path()));
  CCOE_ASSIGN_OR_RETURN(const auto weights, Weights::Open(folder.path()));
  return FindUnreadTensors(spec, *weights);
}

// `model` with one more tensor.
absl::StatusOr<UnreadTensors> FindWith(const std::string& model, const std::string& name) {
  return FindIn(model, {nullptr, [&](Tensors& tensors) {
                          tensors[name] = {kValues, DType::kF32, {4}, sizeof(kValues)};
                        }});
}

absl::StatusOr<UnreadTensors> FindWithConfig(const std::string& model, const std::string& key,
                                             const nlohmann::json& value) {
  return FindIn(model, {[&](nlohmann::json& config) {
                          if (value.is_discarded()) {
                            config.erase(key);
                          } else {
                            config[key] = value;
                          }
                        },
                        nullptr});
}

const nlohmann::json kErased(nlohmann::json::value_t::discarded);

void ExpectRefused(const absl::StatusOr<UnreadTensors>& found, const std::string& tensor,
                   const std::string& expected) {
  EXPECT_THAT(found,
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("tensor " + tensor + ": expected"), HasSubstr(expected))));
}

std::vector<std::string> GoldenModels() {
  std::vector<std::string> models = testing::DenseModels();
  for (const std::string& name : testing::MoeModels()) models.push_back(name);
  for (const std::string& name : testing::GoldenExperts()) models.push_back("ccoe/" + name);
  return models;
}

TEST(UnreadTensorsTest, EveryGoldenModelReadsAllOfItsTensors) {
  for (const std::string& model : GoldenModels()) {
    ASSERT_OK_AND_ASSIGN(const UnreadTensors unread, FindIn(model, {}));
    EXPECT_EQ(unread.count, 0) << model << ": " << unread.ToString();
    EXPECT_EQ(unread.ToString(), "");
  }
}

TEST(UnreadTensorsTest, EveryFeatureOfALayerHasItsTensors) {
  ModelSpec biased = testing::TinySpec();
  for (LayerSpec& layer : biased.layers) {
    layer.attention.qkv_bias = layer.attention.output_bias = layer.ffn.bias = true;
    layer.attention.qk_norm = QkNorm::kPerHead;
  }
  for (const ModelSpec& spec :
       {testing::TinySpec(), testing::TinyMoeSpec(), testing::TinyLatentSpec(), biased}) {
    const TempFolder folder;
    ASSERT_OK(testing::WriteTinyWeights(spec, folder.path(), 1));
    ASSERT_OK_AND_ASSIGN(const auto weights, Weights::Open(folder.path()));
    ASSERT_OK_AND_ASSIGN(const UnreadTensors unread, FindUnreadTensors(spec, *weights));
    EXPECT_EQ(unread.count, 0) << unread.ToString();
  }
}

TEST(UnreadTensorsTest, TensorsOfNobodyAreCountedAndTheFirstAreNamed) {
  ASSERT_OK_AND_ASSIGN(const UnreadTensors one, FindWith("llama-gqa", "vision.patch.weight"));
  EXPECT_EQ(one.count, 1);
  EXPECT_EQ(one.ToString(), "1 tensor is read by nothing: vision.patch.weight");
  ASSERT_OK_AND_ASSIGN(
      const UnreadTensors many,
      FindIn("llama-gqa", {nullptr, [](Tensors& all) {
                             for (const char* name : {"c", "a", "b", "model.layers.x.y",
                                                      "model.layers.-1.self_attn.q_proj.weight",
                                                      "model.layers.01.self_attn.q_proj.weight",
                                                      "model.layers.1.new.weight"}) {
                               all[name] = {kValues, DType::kF32, {4}, sizeof(kValues)};
                             }
                           }}));
  EXPECT_EQ(many.count, 7);
  EXPECT_THAT(many.first, ElementsAre("a", "b", "c", "model.layers.-1.self_attn.q_proj.weight",
                                      "model.layers.01.self_attn.q_proj.weight"));
  EXPECT_THAT(many.ToString(), HasSubstr("7 tensors are read by nothing: a, b, c, "));
  EXPECT_THAT(many.ToString(), HasSubstr(" and 2 more"));
}

TEST(UnreadTensorsTest, RotaryTablesAreNothingToSpeakOf) {
  for (const char* name :
       {"model.layers.1.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq",
        "model.layers.0.attn.rotary_emb.cos_cached", "model.layers.0.attn.rotary_emb.sin_cached"}) {
    ASSERT_OK_AND_ASSIGN(const UnreadTensors unread, FindWith("llama-gqa", name));
    EXPECT_EQ(unread.count, 0) << unread.ToString();
  }
}

TEST(UnreadTensorsTest, RefusesASharedExpertThatTheConfigLeavesOut) {
  ExpectRefused(FindWithConfig("deepseek-v3", "n_shared_experts", kErased),
                "model.layers.1.mlp.shared_experts.down_proj.weight", "the config leaves out");
  ExpectRefused(FindWithConfig("qwen2moe-shared", "shared_expert_intermediate_size", 0),
                "model.layers.0.mlp.shared_expert.down_proj.weight", "the config leaves out");
}

TEST(UnreadTensorsTest, RefusesLayersAboveThoseOfTheConfig) {
  ExpectRefused(FindWithConfig("llama-gqa", "num_hidden_layers", 1),
                "model.layers.1.input_layernorm.weight", "layers 0 to 0");
  ExpectRefused(FindWithConfig("grok1", "num_hidden_layers", 1),
                "transformer.decoder_layer.1.moe.0.linear.weight", "layers 0 to 0");
}

TEST(UnreadTensorsTest, LayersThatPredictFurtherTokensAreLeftOutWhereTheConfigNamesThem) {
  const std::string tensor = "model.layers.4.eh_proj.weight";
  ExpectRefused(FindWith("deepseek-v3", tensor), tensor, "layers 0 to 3");
  const auto named = [&](int layers) {
    return FindIn("deepseek-v3",
                  {[&](nlohmann::json& config) { config["num_nextn_predict_layers"] = layers; },
                   [&](Tensors& all) {
                     all[tensor] = {kValues, DType::kF32, {4}, sizeof(kValues)};
                   }});
  };
  ASSERT_OK_AND_ASSIGN(const UnreadTensors unread, named(1));
  EXPECT_EQ(unread.count, 0) << unread.ToString();
  ExpectRefused(named(0), tensor, "layers 0 to 3");
  EXPECT_THAT(named(-1),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("num_nextn_predict_layers")));
}

TEST(UnreadTensorsTest, RefusesFfnExpertsTheConfigDoesNotName) {
  const std::string more = "model.layers.2.mlp.experts.12.up_proj.weight";
  ExpectRefused(FindWith("deepseek-v3", more), more, "FFN experts 0 to 11");
  const std::string dense = "model.layers.0.mlp.experts.0.up_proj.weight";
  ExpectRefused(FindWith("deepseek-v3", dense), dense, "a dense layer 0");
  ExpectRefused(FindWithConfig("deepseek-v3", "first_k_dense_replace", 2),
                "model.layers.1.mlp.experts.0.down_proj.weight", "a dense layer 1");
}

TEST(UnreadTensorsTest, RefusesWhatBelongsToAModuleThatTheConfigSaysHasNone) {
  for (const auto& [model, tensor] : std::map<std::string, std::vector<std::string>>{
           {"llama-gqa",
            {"model.layers.0.self_attn.q_proj.bias", "model.layers.1.self_attn.o_proj.bias",
             "model.layers.1.mlp.up_proj.bias", "model.layers.0.self_attn.q_norm.weight",
             "model.layers.0.input_layernorm.bias", "model.layers.0.self_attn.q_proj.weight_scale",
             "model.norm.bias", "lm_head.bias"}},
           {"deepseek-v2",
            {"model.layers.1.mlp.gate.e_score_correction_bias",
             "model.layers.1.mlp.gate_proj.weight", "model.layers.1.self_attn.k_proj.weight",
             "model.layers.1.mlp.experts.0.gate_proj.bias"}},
           {"mixtral-8x2", {"model.layers.0.block_sparse_moe.gate.bias"}}}) {
    for (const std::string& name : tensor) {
      ExpectRefused(FindWith(model, name), name, "found this tensor");
    }
  }
}

TEST(UnreadTensorsTest, AHeadBesideTiedEmbeddingsIsTheEmbeddingOrRefused) {
  const auto with_head = [](const std::function<void(TensorView&)>& change) {
    return FindIn("qwen2-tied", {nullptr, [&](Tensors& all) {
                                   TensorView head = all.at("model.embed_tokens.weight");
                                   change(head);
                                   all["lm_head.weight"] = head;
                                 }});
  };
  ASSERT_OK_AND_ASSIGN(const UnreadTensors same, with_head([](TensorView&) {}));
  EXPECT_EQ(same.count, 0);
  std::vector<char> other;
  ExpectRefused(with_head([&other](TensorView& head) {
                  const char* bytes = static_cast<const char*>(head.data);
                  other.assign(bytes, bytes + head.size_bytes);
                  other.back() = static_cast<char>(other.back() ^ 1);
                  head.data = other.data();
                }),
                "lm_head.weight", "tie_word_embeddings is true");
  ExpectRefused(with_head([](TensorView& head) {
                  head.size_bytes = head.size_bytes / static_cast<size_t>(head.shape[0]);
                  head.shape[0] = 1;
                }),
                "lm_head.weight", "tie_word_embeddings is true");
}

TEST(UnreadTensorsTest, APartOfACheckpointIsNotMissedAndItsOwnHeadIsNoMistake) {
  // A bundle over a tied base: the upper layer and a head of its own.
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, LoadModelSpec(GoldenFolder("qwen2-tied")));
  ASSERT_OK_AND_ASSIGN(const auto source, Weights::Open(GoldenFolder("qwen2-tied")));
  Tensors tensors;
  for (const std::string& name : source->Names()) {
    if (name.find("model.layers.1.") != 0) continue;
    ASSERT_OK_AND_ASSIGN(tensors[name], source->Raw(name));
  }
  tensors["lm_head.weight"] = {kValues, DType::kF32, {4}, sizeof(kValues)};
  const TempFolder folder;
  ASSERT_OK(WriteSafetensors(folder / "model.safetensors", tensors));
  ASSERT_OK_AND_ASSIGN(const auto weights, Weights::Open(folder.path()));
  ASSERT_OK_AND_ASSIGN(const UnreadTensors unread, FindUnreadTensors(spec, *weights));
  EXPECT_EQ(unread.count, 0) << unread.ToString();
}

TEST(UnreadTensorsTest, WhoeverBindsADecoderHasItChecked) {
  ASSERT_OK_AND_ASSIGN(ModelSpec spec, LoadModelSpec(GoldenFolder("llama-gqa")));
  ASSERT_OK_AND_ASSIGN(const auto weights, Weights::Open(GoldenFolder("llama-gqa")));
  EXPECT_OK(Decoder::Create(spec, {0, 1}, weights));
  spec.layers.pop_back();
  EXPECT_THAT(Decoder::Create(spec, {0, 1}, weights),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found more")));
}

TEST(UnreadTensorsTest, AWarningIsGivenOnceAFolder) {
  const TempFolder folder;
  const ModelSpec spec = testing::TinySpec();
  ASSERT_OK(WriteSafetensors(folder / "model.safetensors",
                             {{"strange", {kValues, DType::kF32, {4}, sizeof(kValues)}}}));
  ASSERT_OK_AND_ASSIGN(const auto weights, Weights::Open(folder.path()));
  ::testing::internal::CaptureStderr();
  EXPECT_OK(CheckAllIsRead(spec, *weights));
  const std::string first = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(first, AllOf(HasSubstr(folder.path()), HasSubstr("strange")));
  ::testing::internal::CaptureStderr();
  EXPECT_OK(CheckAllIsRead(spec, *weights));
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace ccoe::model
