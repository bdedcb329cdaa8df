// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/attention.h"

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/expect_close.h"
#include "tests/testing/model_run.h"
#include "tests/testing/reference_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::model {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;

const std::vector<int32_t> kPrompt = {3, 1, 4, 1, 5, 9, 2, 6, 5,  3,  5,
                                      8, 9, 7, 9, 3, 2, 3, 8, 46, 49, 0};

// The model computes what the slow reference does.
void ExpectMatchesReference(const ModelSpec& spec) {
  const testing::TempFolder folder;
  ASSERT_OK(testing::WriteTinyWeights(spec, folder.path(), 7));
  ASSERT_OK_AND_ASSIGN(auto weights, Weights::Open(folder.path()));
  ASSERT_OK_AND_ASSIGN(const auto expected, testing::ReferenceLogits(spec, *weights, kPrompt));
  ASSERT_OK_AND_ASSIGN(auto run,
                       testing::ModelRun::Create(spec, weights, testing::ModelRunOptions{}));
  ASSERT_OK_AND_ASSIGN(const auto out, run->FeedInChunks(kPrompt, 9));
  testing::ExpectClose(out.logits, expected, 1e-4, "logits");
}

// The same of the tiny model, its layers' attention changed by `change`.
void ExpectMatchesReference(const std::function<void(AttentionSpec&)>& change) {
  ModelSpec spec = testing::TinySpec();
  for (LayerSpec& layer : spec.layers) change(layer.attention);
  ExpectMatchesReference(spec);
}

TEST(AttentionTest, PlainGroupedQueryAttentionMatchesTheReference) {
  ExpectMatchesReference([](AttentionSpec&) {});
}

TEST(AttentionTest, NormOfEachHeadBeforeRopeMatchesTheReference) {
  ExpectMatchesReference([](AttentionSpec& a) { a.qk_norm = QkNorm::kPerHead; });
}

TEST(AttentionTest, NormOfTheWholeProjectionMatchesTheReference) {
  ExpectMatchesReference([](AttentionSpec& a) { a.qk_norm = QkNorm::kWholeProjection; });
}

TEST(AttentionTest, BiasesMatchTheReference) {
  ExpectMatchesReference([](AttentionSpec& a) { a.qkv_bias = true; });
  ExpectMatchesReference([](AttentionSpec& a) { a.output_bias = true; });
}

TEST(AttentionTest, SlidingWindowMatchesTheReference) {
  ExpectMatchesReference([](AttentionSpec& a) { a.sliding_window = 5; });
  ExpectMatchesReference([](AttentionSpec& a) { a.sliding_window = 1; });
}

TEST(AttentionTest, SoftCapMatchesTheReference) {
  ExpectMatchesReference([](AttentionSpec& a) { a.soft_cap = 2.0f; });
}

TEST(AttentionTest, ClippingAfterTheNormsMatchesTheReference) {
  ExpectMatchesReference([](AttentionSpec& a) { a.clip_qkv = 0.4f; });
  ExpectMatchesReference([](AttentionSpec& a) {
    a.clip_qkv = 0.7f;
    a.qk_norm = QkNorm::kWholeProjection;
  });
}

TEST(AttentionTest, FourNormsALayerUnderOtherNamesMatchTheReference) {
  ModelSpec spec = testing::TinySpec();
  spec.names.layer_prefix = "decoder.";
  spec.names.q = "attention.query";
  spec.names.attention_post_norm = "norm_after_attention";
  spec.names.ffn_post_norm = "norm_after_ffn";
  for (LayerSpec& layer : spec.layers) layer.post_norms = true;
  ExpectMatchesReference(spec);
}

TEST(AttentionTest, HeadDimNeedNotBeHiddenOverHeads) {
  ExpectMatchesReference([](AttentionSpec& a) {
    a.heads = 6;
    a.kv_heads = 3;
    a.head_dim = 16;
  });
}

class BindAttentionTest : public ::testing::Test {
 protected:
  // The weights of the tiny spec, then bound under another spec.
  absl::Status Bind() {
    EXPECT_OK(testing::WriteTinyWeights(testing::TinySpec(), folder_.path(), 1));
    auto weights = Weights::Open(folder_.path());
    EXPECT_OK(weights);
    return BindAttention(spec_, 1, **weights).status();
  }
  ModelSpec spec_ = testing::TinySpec();
  AttentionSpec& attention_ = spec_.layers[1].attention;
  testing::TempFolder folder_;
};

TEST_F(BindAttentionTest, TakesWeightsOfTheRightShapes) { EXPECT_OK(Bind()); }

TEST_F(BindAttentionTest, NamesAMissingBias) {
  attention_.qkv_bias = true;
  EXPECT_THAT(Bind(), StatusIs(absl::StatusCode::kNotFound,
                               HasSubstr("model.layers.1.self_attn.q_proj.bias")));
}

TEST_F(BindAttentionTest, NamesAMissingHeadNorm) {
  attention_.qk_norm = QkNorm::kPerHead;
  EXPECT_THAT(Bind(), StatusIs(absl::StatusCode::kNotFound,
                               HasSubstr("model.layers.1.self_attn.q_norm.weight")));
}

TEST_F(BindAttentionTest, NamesATensorOfAnotherShape) {
  attention_.kv_heads = 4;
  EXPECT_THAT(Bind(), StatusIs(absl::StatusCode::kInvalidArgument,
                               AllOf(HasSubstr("k_proj.weight"),
                                     HasSubstr("expected shape [32, 24]"), HasSubstr("[16, 24]"))));
}

class LatentAttentionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(testing::WriteTinyWeights(spec_, folder_.path(), 9));
    ASSERT_OK_AND_ASSIGN(weights_, Weights::Open(folder_.path()));
  }
  AttentionSpec& attention() { return spec_.layers[1].attention; }
  absl::Status Bind() { return BindLatentAttention(spec_, 1, *weights_).status(); }

  ModelSpec spec_ = testing::TinyLatentSpec();
  testing::TempFolder folder_;
  std::shared_ptr<const Weights> weights_;
};

TEST_F(LatentAttentionTest, TheKHalfOfTheUpProjectionIsTurnedOverHeadByHead) {
  ASSERT_OK_AND_ASSIGN(const LatentAttentionWeights bound,
                       BindLatentAttention(spec_, 1, *weights_));
  ASSERT_EQ(bound.up_k.rows, 4 * 12);
  ASSERT_EQ(bound.up_k.cols, 6);
  for (int64_t head = 0; head < 4; ++head) {
    for (int64_t rank = 0; rank < 12; ++rank) {
      for (int64_t i = 0; i < 6; ++i) {
        EXPECT_EQ(static_cast<const float*>(bound.up_k.Row(head * 12 + rank))[i],
                  static_cast<const float*>(bound.kv_up.Row(head * (6 + 7) + i))[rank]);
      }
    }
  }
}

TEST_F(LatentAttentionTest, ChunksPagesAndThreadsChangeNoBit) {
  const std::vector<int32_t> ids = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3};
  ASSERT_OK_AND_ASSIGN(auto whole, testing::ModelRun::Create(spec_, weights_, {}));
  ASSERT_OK_AND_ASSIGN(const auto expected, whole->Feed(ids));
  testing::ModelRunOptions options;
  options.page_tokens = 3;
  options.threads = 1;
  ASSERT_OK_AND_ASSIGN(auto chunked, testing::ModelRun::Create(spec_, weights_, options));
  ASSERT_OK_AND_ASSIGN(const auto out, chunked->FeedInChunks(ids, 5));
  EXPECT_EQ(out.logits, expected.logits);
}

TEST_F(LatentAttentionTest, NamesATensorOfAnotherShape) {
  attention().latent.value_dim = 8;
  EXPECT_THAT(Bind(), StatusIs(absl::StatusCode::kInvalidArgument,
                               AllOf(HasSubstr("model.layers.1.self_attn.kv_b_proj.weight"),
                                     HasSubstr("[56, 12]"), HasSubstr("[52, 12]"))));
}

TEST_F(LatentAttentionTest, NamesTheMissingQueryProjection) {
  attention().latent.q_rank = 0;
  EXPECT_THAT(Bind(), StatusIs(absl::StatusCode::kNotFound,
                               HasSubstr("model.layers.1.self_attn.q_proj.weight")));
}

TEST_F(LatentAttentionTest, WhatNoSuchModelHasIsUnimplemented) {
  attention().qkv_bias = true;
  EXPECT_THAT(Bind(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("biases")));
}

TEST(RopeTest, FrequenciesFallFromOneAsPowersOfTheta) {
  RopeSpec spec;
  spec.theta = 10000.0;
  const auto frequencies = RopeFrequencies(spec, 8);
  ASSERT_EQ(frequencies.size(), 4u);
  const double expected[] = {1.0, 0.1, 0.01, 0.001};
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(frequencies[i], expected[i], 1e-7 * expected[i]);
}

TEST(RopeTest, LinearScalingDividesByTheFactor) {
  RopeSpec spec;
  spec.scaling = RopeScaling::kLinear;
  spec.factor = 4.0;
  RopeSpec plain;
  const auto scaled = RopeFrequencies(spec, 16);
  const auto frequencies = RopeFrequencies(plain, 16);
  for (size_t i = 0; i < scaled.size(); ++i) EXPECT_FLOAT_EQ(scaled[i], frequencies[i] / 4.0f);
}

TEST(RopeTest, Llama3ScalingKeepsShortWavesStretchesLongOnesAndBlendsBetween) {
  RopeSpec spec;
  spec.theta = 10000.0;
  spec.scaling = RopeScaling::kLlama3;
  spec.factor = 8.0;
  spec.low_freq_factor = 1.0;
  spec.high_freq_factor = 4.0;
  spec.original_max_positions = 1024;
  const auto scaled = RopeFrequencies(spec, 64);
  const auto plain = RopeFrequencies(RopeSpec{}, 64);
  int kept = 0, stretched = 0, blended = 0;
  for (size_t i = 0; i < scaled.size(); ++i) {
    const double wavelength = 2.0 * M_PI / plain[i];
    if (wavelength < 256.0) {
      ++kept;
      EXPECT_EQ(scaled[i], plain[i]);
    } else if (wavelength > 1024.0) {
      ++stretched;
      EXPECT_FLOAT_EQ(scaled[i], plain[i] / 8.0f);
    } else {
      ++blended;
      EXPECT_GT(scaled[i], plain[i] / 8.0f);
      EXPECT_LT(scaled[i], plain[i]);
    }
  }
  EXPECT_GT(kept, 0);
  EXPECT_GT(stretched, 0);
  EXPECT_GT(blended, 0);
}

RopeSpec YarnSpec() {
  RopeSpec spec;
  spec.theta = 10000.0;
  spec.scaling = RopeScaling::kYarn;
  spec.factor = 40.0;
  spec.original_max_positions = 4096;
  return spec;
}

TEST(RopeTest, YarnKeepsFrequenciesThatTurnOftenDividesThoseThatHardlyTurnAndBlendsBetween) {
  const RopeSpec spec = YarnSpec();
  const auto scaled = RopeFrequencies(spec, 64);
  const auto plain = RopeFrequencies(RopeSpec{}, 64);
  // 32 turns over 4096 positions are made by frequency 64 ln(4096 / 64 pi) / 2 ln(10000) = 10.47,
  // one turn by 22.51; the blend runs over whole places.
  for (size_t i = 0; i <= 10; ++i) EXPECT_EQ(scaled[i], plain[i]) << i;
  for (size_t i = 23; i < 32; ++i) EXPECT_FLOAT_EQ(scaled[i], plain[i] / 40.0f) << i;
  for (size_t i = 11; i < 23; ++i) {
    const float kept = 1.0f - static_cast<float>(i - 10) / 13.0f;
    EXPECT_FLOAT_EQ(scaled[i], plain[i] * kept + plain[i] / 40.0f * (1.0f - kept)) << i;
  }
}

TEST(RopeTest, YarnStaysFiniteAtTheEdgesOfItsRange) {
  for (const int64_t original : {int64_t{1}, int64_t{7}, int64_t{1} << 30}) {
    for (const double beta : {1e-9, 1.0, 1e9}) {
      for (const double theta : {1.0000001, 2.0, 1e300}) {
        RopeSpec spec = YarnSpec();
        spec.original_max_positions = original;
        spec.beta_fast = spec.beta_slow = beta;
        spec.theta = theta;
        for (const float frequency : RopeFrequencies(spec, 8))
          EXPECT_TRUE(std::isfinite(frequency));
      }
    }
  }
}

TEST(RopeTest, YarnAloneMultipliesCosinesAndSinesByItsAttentionFactor) {
  RopeSpec spec = YarnSpec();
  spec.attention_factor = 1.25;
  EXPECT_EQ(RopeMagnitude(spec), 1.25f);
  spec.scaling = RopeScaling::kLinear;
  EXPECT_EQ(RopeMagnitude(spec), 1.0f);
}

}  // namespace
}  // namespace ccoe::model
