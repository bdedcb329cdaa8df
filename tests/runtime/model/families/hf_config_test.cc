// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/families/hf_config.h"

#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "tests/runtime/model/families/minimal_config.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::model {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::GoldenFolder;
using ::testing::HasSubstr;
using testing::StatusIs;
using testing::TempFolder;

TEST(FamiliesTest, EveryArchitectureStandsOnceAndParsesAnOrdinaryConfig) {
  nlohmann::json object = MinimalLatent();
  object.update(MinimalGrok("n_routed_experts"));
  std::set<std::string> architectures;
  for (const Family& family : Families()) {
    EXPECT_TRUE(architectures.insert(family.architecture).second);
    ASSERT_OK_AND_ASSIGN(const ModelSpec spec, family.parse(ConfigReader(object)));
    EXPECT_EQ(spec.family, family.model_type);
    EXPECT_OK(Validate(spec));
  }
  EXPECT_EQ(architectures.size(), 13u);
}

nlohmann::json GoldenConfig(const std::string& name) {
  auto config = ReadJsonFile(GoldenFolder(name) + "/config.json", 100'000);
  EXPECT_OK(config);
  return *config;
}

absl::StatusOr<ModelSpec> Load(const nlohmann::json& config,
                               const nlohmann::json& generation = nullptr) {
  const TempFolder folder;
  const std::string text = config.dump(), generation_text = generation.dump();
  EXPECT_OK(WriteFileAtomically(folder / "config.json", {text}));
  if (!generation.is_null()) {
    EXPECT_OK(WriteFileAtomically(folder / "generation_config.json", {generation_text}));
  }
  return LoadModelSpec(folder.path());
}

TEST(HfConfigTest, ReadsTheGoldenLlama) {
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, LoadModelSpec(GoldenFolder("llama-gqa")));
  EXPECT_EQ(spec.family, "llama");
  EXPECT_EQ(spec.vocab_size, 512);
  EXPECT_EQ(spec.hidden_size, 96);
  EXPECT_EQ(spec.max_positions, 1024);
  EXPECT_EQ(spec.layer_count(), 4);
  EXPECT_FALSE(spec.tied_head);
  EXPECT_EQ(spec.rope.theta, 50000.0);
  EXPECT_EQ(spec.rope.scaling, RopeScaling::kNone);
  const LayerSpec& layer = spec.layers[3];
  EXPECT_EQ(layer.attention.heads, 6);
  EXPECT_EQ(layer.attention.kv_heads, 2);
  EXPECT_EQ(layer.attention.head_dim, 16);
  EXPECT_EQ(layer.attention.scale, 0.25f);
  EXPECT_EQ(layer.attention.sliding_window, 0);
  EXPECT_EQ(layer.ffn.intermediate, 208);
  EXPECT_THAT(spec.eos_token_ids, ElementsAre(508));
  EXPECT_EQ(spec.bos_token_id, 507);
}

TEST(HfConfigTest, ReadsTheOtherGoldenFamilies) {
  ASSERT_OK_AND_ASSIGN(const ModelSpec llama3, LoadModelSpec(GoldenFolder("llama3-rope-tied")));
  EXPECT_TRUE(llama3.tied_head);
  EXPECT_EQ(llama3.rope.scaling, RopeScaling::kLlama3);
  EXPECT_EQ(llama3.rope.original_max_positions, 64);
  ASSERT_OK_AND_ASSIGN(const ModelSpec mistral, LoadModelSpec(GoldenFolder("mistral-swa")));
  EXPECT_EQ(mistral.layers[0].attention.sliding_window, 12);
  ASSERT_OK_AND_ASSIGN(const ModelSpec qwen2, LoadModelSpec(GoldenFolder("qwen2-tied")));
  EXPECT_EQ(qwen2.layers[3].attention.sliding_window, 0);
  EXPECT_TRUE(qwen2.layers[3].attention.qkv_bias);
  EXPECT_FALSE(qwen2.layers[3].attention.output_bias);
  EXPECT_EQ(qwen2.bos_token_id, -1);
}

TEST(HfConfigTest, ReadsTheGoldenModelsWithExperts) {
  struct Golden {
    const char* name;
    const char* family;
    size_t first_moe_layer;
    int64_t experts, top_k;
    bool renormalize;
    int64_t shared_width;
  };
  for (const Golden& golden : {Golden{"mixtral-8x2", "mixtral", 0, 8, 2, true, 0},
                               Golden{"deepseek-v1-moe", "deepseek", 1, 12, 3, false, 64},
                               Golden{"deepseek-v2", "deepseek_v2", 1, 8, 3, false, 64},
                               Golden{"deepseek-v3", "deepseek_v3", 1, 12, 3, true, 32},
                               Golden{"grok1", "grok", 0, 8, 2, false, 0},
                               Golden{"qwen2moe-shared", "qwen2_moe", 0, 12, 4, false, 96},
                               Golden{"qwen3moe", "qwen3_moe", 0, 16, 4, true, 0},
                               Golden{"olmoe", "olmoe", 0, 16, 4, false, 0}}) {
    SCOPED_TRACE(golden.name);
    ASSERT_OK_AND_ASSIGN(const ModelSpec spec, LoadModelSpec(GoldenFolder(golden.name)));
    EXPECT_EQ(spec.family, golden.family);
    ASSERT_EQ(spec.layers.size(), 4u);
    for (size_t i = 0; i < 4; ++i) {
      const FfnSpec& ffn = spec.layers[i].ffn;
      ASSERT_EQ(ffn.is_moe(), i >= golden.first_moe_layer);
      if (!ffn.is_moe()) continue;
      EXPECT_EQ(ffn.moe.experts, golden.experts);
      EXPECT_EQ(ffn.moe.gate.top_k, golden.top_k);
      EXPECT_EQ(ffn.moe.gate.renormalize, golden.renormalize);
      EXPECT_EQ(ffn.moe.shared_intermediate, golden.shared_width);
    }
  }
}

TEST(HfConfigTest, MoreChosenExpertsThanThereAreIsNamedForEveryFamily) {
  for (const std::string& name : testing::MoeModels()) {
    nlohmann::json config = GoldenConfig(name);
    config["num_experts_per_tok"] = 17;
    EXPECT_THAT(Load(config), StatusIs(absl::StatusCode::kInvalidArgument,
                                       AllOf(HasSubstr("config.json"),
                                             HasSubstr("num_experts_per_tok: expected at most"),
                                             HasSubstr("found 17"))))
        << name;
  }
}

TEST(HfConfigTest, JoinsTheEndTokensOfBothFilesWithoutRepeats) {
  nlohmann::json config = GoldenConfig("llama-gqa");
  config["eos_token_id"] = {508, 3};
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec,
                       Load(config, {{"eos_token_id", {3, 4}}, {"bos_token_id", 9}}));
  EXPECT_THAT(spec.eos_token_ids, ElementsAre(508, 3, 4));
  EXPECT_EQ(spec.bos_token_id, 507);
}

TEST(HfConfigTest, ABadGenerationConfigIsNamed) {
  EXPECT_THAT(Load(GoldenConfig("llama-gqa"), {{"eos_token_id", 512}}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("generation_config.json"), HasSubstr("0 to 511"),
                             HasSubstr("found 512"))));
  EXPECT_THAT(Load(GoldenConfig("llama-gqa"), nlohmann::json::array()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("generation_config.json")));
}

TEST(HfConfigTest, AnUnknownArchitectureListsTheSupportedOnes) {
  nlohmann::json config = GoldenConfig("llama-gqa");
  config["architectures"] = {"GemmaForCausalLM"};
  EXPECT_THAT(Load(config),
              StatusIs(absl::StatusCode::kUnimplemented,
                       AllOf(HasSubstr("LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM"),
                             HasSubstr("GemmaForCausalLM"), HasSubstr("config.json"))));
  config.erase("architectures");
  config["model_type"] = "gemma";
  EXPECT_THAT(Load(config), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("model_type")));
  config.erase("model_type");
  EXPECT_THAT(Load(config), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("found nothing")));
}

TEST(HfConfigTest, TheModelTypeAloneIsEnoughButMustNotContradict) {
  nlohmann::json config = GoldenConfig("llama-gqa");
  config.erase("architectures");
  EXPECT_OK(Load(config));
  config["architectures"] = {"LlamaForCausalLM"};
  config["model_type"] = "mistral";
  EXPECT_THAT(Load(config), StatusIs(absl::StatusCode::kInvalidArgument,
                                     HasSubstr("model_type: expected \"llama\"")));
}

TEST(HfConfigTest, AMissingOrBrokenFileIsNamed) {
  const TempFolder folder;
  EXPECT_THAT(LoadModelSpec(folder.path()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("config.json")));
  ASSERT_OK(WriteFileAtomically(folder / "config.json", {"[1]"}));
  EXPECT_THAT(LoadModelSpec(folder.path()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("JSON object")));
  ASSERT_OK(WriteFileAtomically(folder / "config.json", {"{\"a\":"}));
  EXPECT_THAT(LoadModelSpec(folder.path()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("byte")));
}

}  // namespace
}  // namespace ccoe::model
