#include "runtime/model/latent_attention.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "tests/testing/model_run.h"
#include "tests/testing/reference_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::model {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;

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

}  // namespace
}  // namespace ccoe::model
