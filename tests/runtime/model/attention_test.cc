#include "runtime/model/attention.h"

#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
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

}  // namespace
}  // namespace ccoe::model
