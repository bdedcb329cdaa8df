// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/model_spec.h"

#include <cmath>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/reference_model.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;
using testing::TinySpec;

void ExpectInvalid(const std::function<void(ModelSpec&)>& change, const std::string& message) {
  ModelSpec spec = TinySpec();
  change(spec);
  EXPECT_THAT(Validate(spec), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
}

TEST(ModelSpecTest, AnOrdinarySpecIsValid) { EXPECT_OK(Validate(TinySpec())); }

TEST(ModelSpecTest, AbsurdSizesAreNamed) {
  ExpectInvalid([](ModelSpec& s) { s.vocab_size = 0; },
                "vocab_size: expected 1 to 16777216, found 0");
  ExpectInvalid([](ModelSpec& s) { s.hidden_size = INT64_MAX; }, "hidden_size");
  ExpectInvalid([](ModelSpec& s) { s.max_positions = -1; }, "max_positions");
  ExpectInvalid([](ModelSpec& s) { s.layers.clear(); }, "layers: expected 1 to 4096, found 0");
  ExpectInvalid([](ModelSpec& s) { s.norm_eps = NAN; }, "norm_eps");
  ExpectInvalid([](ModelSpec& s) { s.rope.theta = 0.0; }, "rope theta");
  ExpectInvalid([](ModelSpec& s) { s.layers[1].ffn.intermediate = 0; },
                "layer 1: intermediate size");
  ExpectInvalid([](ModelSpec& s) { s.layers[0].attention.scale = INFINITY; },
                "layer 0: attention scale");
}

TEST(ModelSpecTest, ContradictionsAreNamed) {
  ExpectInvalid([](ModelSpec& s) { s.layers[1].attention.kv_heads = 3; },
                "a multiple of the 3 key/value heads, found 4");
  ExpectInvalid([](ModelSpec& s) { s.layers[0].attention.kv_heads = 8; },
                "key/value heads: expected 1 to 4, found 8");
  ExpectInvalid([](ModelSpec& s) { s.layers[0].attention.head_dim = 7; },
                "head_dim: expected an even number, found 7");
  ExpectInvalid([](ModelSpec& s) { s.layers[1].attention.head_dim = 10; },
                "layer 1: head_dim: expected 8 to 8, found 10");
  ExpectInvalid(
      [](ModelSpec& s) {
        s.eos_token_ids = {1, 50};
      },
      "eos_token_id: expected 0 to 49, found 50");
  ExpectInvalid([](ModelSpec& s) { s.bos_token_id = -2; }, "bos_token_id");
  ExpectInvalid(
      [](ModelSpec& s) {
        s.rope.scaling = RopeScaling::kLlama3;
        s.rope.original_max_positions = 64;
        s.rope.high_freq_factor = s.rope.low_freq_factor;
      },
      "high_freq_factor");
}

// TinySpec with 8 experts in layer 1, 2 of them chosen.
ModelSpec MoeSpecOf8() {
  ModelSpec spec = TinySpec();
  FfnSpec& ffn = spec.layers[1].ffn;
  ffn = FfnSpec{};
  ffn.kind = FfnKind::kMoe;
  ffn.moe.experts = 8;
  ffn.moe.intermediate = 16;
  ffn.moe.gate.top_k = 2;
  return spec;
}

// TinySpec with latent attention in all layers: 12 + 4 for q and k, 10 for v, 8 + 4 in the cache.
ModelSpec LatentTinySpec() {
  ModelSpec spec = TinySpec();
  for (LayerSpec& layer : spec.layers) {
    layer.attention.kv_heads = 1;
    layer.attention.head_dim = 12;
    layer.attention.latent = {0, 8, 12, 4, 10};
  }
  return spec;
}

void ExpectMoeInvalid(const std::function<void(MoeSpec&)>& change, const std::string& message) {
  ModelSpec spec = MoeSpecOf8();
  change(spec.layers[1].ffn.moe);
  EXPECT_THAT(Validate(spec), StatusIs(absl::StatusCode::kInvalidArgument,
                                       AllOf(HasSubstr("layer 1: "), HasSubstr(message))));
}

TEST(ModelSpecTest, DenseAndMoeLayersMayBeMixed) {
  EXPECT_OK(Validate(MoeSpecOf8()));
  EXPECT_TRUE(MoeSpecOf8().has_moe());
  EXPECT_FALSE(TinySpec().has_moe());
}

TEST(ModelSpecTest, ExpertsThatCannotBeChosenAreNamed) {
  ExpectMoeInvalid([](MoeSpec& m) { m.experts = 0; }, "experts: expected 1 to");
  ExpectMoeInvalid([](MoeSpec& m) { m.experts = INT64_MAX; }, "experts: expected 1 to");
  ExpectMoeInvalid([](MoeSpec& m) { m.intermediate = 0; }, "intermediate size of an expert");
  ExpectMoeInvalid([](MoeSpec& m) { m.gate.top_k = 0; }, "(top_k) of 8: expected 1 to 8, found 0");
  ExpectMoeInvalid([](MoeSpec& m) { m.gate.top_k = 9; }, "(top_k) of 8: expected 1 to 8, found 9");
  ExpectMoeInvalid([](MoeSpec& m) { m.gate.scale = 0.0f; }, "scale of the expert weights");
  ExpectMoeInvalid([](MoeSpec& m) { m.gate.groups = 3; }, "a divisor of the 8 experts, found 3");
  ExpectMoeInvalid([](MoeSpec& m) { m.gate.groups = 0; }, "groups of experts: expected 1 to 8");
  ExpectMoeInvalid([](MoeSpec& m) { m.gate.top_groups = 2; }, "chosen groups");
  ExpectMoeInvalid(
      [](MoeSpec& m) {
        m.gate.groups = 4;
        m.gate.top_k = 3;
      },
      "(top_k) of 1 groups of 2: expected 1 to 2, found 3");
  ExpectMoeInvalid(
      [](MoeSpec& m) {
        m.gate.groups = 8;
        m.gate.top_groups = 4;
        m.gate.group_score = kernels::GroupScore::kTopTwoSum;
      },
      "experts of a group: expected 2 or more");
}

TEST(ModelSpecTest, SharedExpertsHaveAWidthExactlyWhereThereAreSome) {
  const std::string what = "intermediate size of the shared expert";
  ExpectMoeInvalid([](MoeSpec& m) { m.shared = SharedExpert::kPlain; }, what);
  ExpectMoeInvalid([](MoeSpec& m) { m.shared_intermediate = 4; }, what);
  ModelSpec spec = MoeSpecOf8();
  spec.layers[1].ffn.bias = true;
  EXPECT_THAT(Validate(spec), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("bias")));
}

TEST(ModelSpecTest, ExpertsOfAllLayersAreBounded) {
  ModelSpec spec = MoeSpecOf8();
  spec.layers[1].ffn.moe.experts = 1 << 16;
  spec.layers.assign(17, spec.layers[1]);
  EXPECT_THAT(Validate(spec),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("experts of all layers")));
}

TEST(ModelSpecTest, LatentAttentionDescribesItsCache) {
  EXPECT_OK(Validate(LatentTinySpec()));
  const auto expect = [](const std::function<void(AttentionSpec&)>& change,
                         const std::string& message) {
    ModelSpec spec = LatentTinySpec();
    change(spec.layers[0].attention);
    EXPECT_THAT(Validate(spec),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("layer 0: " + message)));
  };
  expect([](AttentionSpec& a) { a.kv_heads = 2; }, "key/value heads of latent attention");
  expect([](AttentionSpec& a) { a.head_dim = 14; },
         "head_dim of latent attention (rope_dim + kv_rank): expected 12 to 12, found 14");
  expect([](AttentionSpec& a) { a.latent.rope_dim = 3; }, "latent rope_dim: expected an even");
  expect([](AttentionSpec& a) { a.latent.nope_dim = 0; }, "latent nope_dim");
  expect([](AttentionSpec& a) { a.latent.value_dim = 0; }, "latent value_dim");
  expect([](AttentionSpec& a) { a.latent.q_rank = -1; }, "latent q_rank");
  expect([](AttentionSpec& a) { a.latent.kv_rank = 0; }, "latent kv_rank");
  expect([](AttentionSpec& a) { a.latent.kv_rank = INT64_MAX; }, "latent kv_rank");
}

TEST(ModelSpecTest, AllLayersRotateAsManyDimensions) {
  ModelSpec spec = LatentTinySpec();
  spec.layers[1].attention.latent.rope_dim = 6;
  spec.layers[1].attention.head_dim = 14;
  EXPECT_THAT(Validate(spec),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("layer 1: latent rope_dim: expected 4 to 4, found 6")));
  spec.layers[1].attention.latent.kv_rank = 6;
  EXPECT_FALSE(Validate(spec).ok());
}

TEST(ModelSpecTest, PostNormsHaveNamesAndClipsAreNumbers) {
  ModelSpec spec = TinySpec();
  spec.layers[1].post_norms = true;
  EXPECT_THAT(Validate(spec),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("layer 1: tensor names")));
  spec.names.attention_post_norm = "a";
  spec.names.ffn_post_norm = "b";
  EXPECT_OK(Validate(spec));
  ExpectInvalid([](ModelSpec& s) { s.layers[0].attention.clip_qkv = -1.0f; }, "clip_qkv");
}

TEST(ModelSpecTest, YarnIsChecked) {
  const auto yarn = [](ModelSpec& spec) {
    spec.rope.scaling = RopeScaling::kYarn;
    spec.rope.factor = 4.0;
    spec.rope.original_max_positions = 64;
  };
  ModelSpec good = TinySpec();
  yarn(good);
  EXPECT_OK(Validate(good));
  const auto expect = [&](const std::function<void(RopeSpec&)>& change,
                          const std::string& message) {
    ExpectInvalid(
        [&](ModelSpec& s) {
          yarn(s);
          change(s.rope);
        },
        message);
  };
  expect([](RopeSpec& r) { r.original_max_positions = 0; }, "original_max_position_embeddings");
  expect([](RopeSpec& r) { r.beta_fast = 0.5; }, "beta_fast: expected at least beta_slow (1)");
  expect([](RopeSpec& r) { r.beta_slow = 0.0; }, "beta_slow");
  expect([](RopeSpec& r) { r.attention_factor = NAN; }, "attention_factor");
  expect([](RopeSpec& r) { r.theta = 1.0; }, "rope theta: expected more than 1");
}

// Fingerprints of published bundles hang on these bytes.
TEST(ModelSpecTest, FingerprintTextOfADenseModelStaysAsItWas) {
  const std::string layer =
      "heads 4 2 dim 8 bias 0 0 norm 0 window 0 scale 0.353553385 cap 0 ffn 0 40 0 0\n";
  EXPECT_EQ(FingerprintText(TinySpec()),
            "vocab 50 hidden 24 eps 9.99999975e-06 tied 0 embedding 1 logits 1 0\n"
            "rope theta 10000 style 0 scaling 0 factor 1 low 1 high 4 original 0\n" +
                layer + layer);
}

TEST(ModelSpecTest, FingerprintTextTellsApartWhatMoeLayersComputeDifferently) {
  const std::vector<std::function<void(ModelSpec&)>> changes = {
      [](ModelSpec&) {},
      [](ModelSpec& s) { s.layers[1].ffn.moe.experts = 12; },
      [](ModelSpec& s) { s.layers[1].ffn.moe.intermediate = 12; },
      [](ModelSpec& s) { s.layers[1].ffn.moe.gate.top_k = 3; },
      [](ModelSpec& s) { s.layers[1].ffn.moe.gate.renormalize = true; },
      [](ModelSpec& s) { s.layers[1].ffn.moe.gate.scale = 2.5f; },
      [](ModelSpec& s) { s.layers[1].ffn.moe.gate.score = kernels::RouterScore::kSigmoid; },
      [](ModelSpec& s) { s.layers[1].ffn.moe.gate.groups = 2; },
      [](ModelSpec& s) { s.layers[1].ffn.moe.gate.groups = 4; },
      [](ModelSpec& s) {
        s.layers[1].ffn.moe.gate.groups = 4;
        s.layers[1].ffn.moe.gate.top_groups = 2;
      },
      [](ModelSpec& s) {
        s.layers[1].ffn.moe.gate.groups = 4;
        s.layers[1].ffn.moe.gate.group_score = kernels::GroupScore::kTopTwoSum;
      },
      [](ModelSpec& s) { s.layers[1].ffn.moe.correction_bias = true; },
      [](ModelSpec& s) { s.layers[1].ffn.moe.shared = SharedExpert::kPlain; },
      [](ModelSpec& s) { s.layers[1].ffn.moe.shared = SharedExpert::kSigmoidGated; },
      [](ModelSpec& s) { s.layers[1].post_norms = true; },
      [](ModelSpec& s) { s.layers[1].attention.clip_qkv = 8.0f; },
      [](ModelSpec& s) { s.layers[1].attention.latent.kv_rank = 8; },
      [](ModelSpec& s) { s.rope.scaling = RopeScaling::kYarn; },
      [](ModelSpec& s) {
        s.rope.scaling = RopeScaling::kYarn;
        s.rope.attention_factor = 1.5;
      },
  };
  std::set<std::string> texts;
  for (const auto& change : changes) {
    ModelSpec spec = MoeSpecOf8();
    change(spec);
    texts.insert(FingerprintText(spec));
  }
  EXPECT_EQ(texts.size(), changes.size());
}

TEST(ModelSpecTest, FingerprintTextLeavesOutWhatDoesNotCount) {
  ModelSpec spec = MoeSpecOf8();
  spec.names.router = "gate";
  spec.layers[1].ffn.intermediate = 9;         // of a dense layer
  spec.layers[0].ffn.moe.experts = 3;          // of a MoE layer
  spec.layers[1].ffn.moe.gate.top_groups = 2;  // where there are groups
  spec.rope.attention_factor = 3.0;            // with YaRN
  EXPECT_EQ(FingerprintText(spec), FingerprintText(MoeSpecOf8()));
}

TEST(ModelSpecTest, FingerprintTextTellsApartWhatComputesDifferently) {
  const std::vector<std::function<void(ModelSpec&)>> changes = {
      [](ModelSpec&) {},
      [](ModelSpec& s) { s.norm_eps = 1e-6f; },
      [](ModelSpec& s) { s.tied_head = true; },
      [](ModelSpec& s) { s.rope.theta = 10001.0; },
      [](ModelSpec& s) { s.rope.scaling = RopeScaling::kLinear; },
      [](ModelSpec& s) { s.layers[1].attention.sliding_window = 3; },
      [](ModelSpec& s) { s.layers[1].attention.qk_norm = QkNorm::kPerHead; },
      [](ModelSpec& s) { s.layers[0].ffn.activation = kernels::Activation::kGeluErf; },
      [](ModelSpec& s) { s.layers.pop_back(); },
      [](ModelSpec& s) { s.logit_soft_cap = 30.0f; },
  };
  std::set<std::string> texts;
  for (const auto& change : changes) {
    ModelSpec spec = TinySpec();
    change(spec);
    texts.insert(FingerprintText(spec));
  }
  EXPECT_EQ(texts.size(), changes.size());
}

TEST(ModelSpecTest, FingerprintTextLeavesOutNamesAndSpecialTokens) {
  ModelSpec spec = TinySpec();
  spec.family = "mistral";
  spec.eos_token_ids = {7};
  spec.bos_token_id = 3;
  spec.max_positions = 9;
  EXPECT_EQ(FingerprintText(spec), FingerprintText(TinySpec()));
}

TEST(ModelSpecTest, ARangeContainsItsParts) {
  EXPECT_TRUE((LayerRange{0, 4}).Contains({1, 4}));
  EXPECT_FALSE((LayerRange{1, 4}).Contains({0, 2}));
  EXPECT_FALSE((LayerRange{0, 4}).Contains({3, 5}));
  EXPECT_TRUE((LayerRange{2, 2}).empty());
}

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
