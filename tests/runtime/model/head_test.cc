// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/head.h"

#include <vector>

#include "gmock/gmock.h"
#include "kernels/cpu/cpu_ops.h"
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

const std::vector<int32_t> kPrompt = {3, 1, 4, 1, 5};

std::shared_ptr<const Weights> TinyWeights(const ModelSpec& spec, const testing::TempFolder& folder,
                                           uint64_t seed) {
  EXPECT_OK(testing::WriteTinyWeights(spec, folder.path(), seed));
  auto weights = Weights::Open(folder.path());
  EXPECT_OK(weights);
  return *weights;
}

std::vector<float> LogitsOf(const ModelSpec& spec, const std::shared_ptr<const Weights>& weights) {
  auto run = testing::ModelRun::Create(spec, weights, testing::ModelRunOptions{});
  EXPECT_OK(run);
  auto out = (*run)->Feed(kPrompt);
  EXPECT_OK(out);
  return out->logits;
}

TEST(LmHeadTest, MultipliersAndCapMatchTheReference) {
  ModelSpec spec = testing::TinySpec();
  spec.embedding_multiplier = 3.0f;
  spec.logit_multiplier = 0.5f;
  spec.logit_soft_cap = 4.0f;
  const testing::TempFolder folder;
  const auto weights = TinyWeights(spec, folder, 3);
  ASSERT_OK_AND_ASSIGN(const auto expected, testing::ReferenceLogits(spec, *weights, kPrompt));
  testing::ExpectClose(LogitsOf(spec, weights), expected, 1e-4, "logits");
}

TEST(LmHeadTest, ATiedHeadIsTheEmbedding) {
  ModelSpec spec = testing::TinySpec();
  spec.tied_head = true;
  const testing::TempFolder folder;
  const auto weights = TinyWeights(spec, folder, 3);
  EXPECT_FALSE(weights->Has("lm_head.weight"));
  ASSERT_OK_AND_ASSIGN(const auto expected, testing::ReferenceLogits(spec, *weights, kPrompt));
  testing::ExpectClose(LogitsOf(spec, weights), expected, 1e-4, "logits");
}

TEST(LmHeadTest, AnExpertsOwnNormAndHeadGoBeforeTheBases) {
  const ModelSpec spec = testing::TinySpec();
  const testing::TempFolder base_folder, own_folder;
  const auto base = TinyWeights(spec, base_folder, 3);
  const auto own = TinyWeights(spec, own_folder, 4);
  ThreadTeam team(1);
  const auto ops = kernels::MakeCpuOps(&team);
  std::vector<float> hidden(24, 0.5f), normed(24), from_own(50), expected(50);
  const auto row = [](std::vector<float>& v) {
    return kernels::F32Matrix(v.data(), 1, static_cast<int64_t>(v.size()));
  };
  ASSERT_OK_AND_ASSIGN(auto head, LmHead::Create(spec, base, own));
  ASSERT_OK(head->Logits(row(hidden), *ops, row(normed), row(from_own)));
  ASSERT_OK_AND_ASSIGN(auto other, LmHead::Create(spec, own));
  ASSERT_OK(other->Logits(row(hidden), *ops, row(normed), row(expected)));
  EXPECT_EQ(from_own, expected);
}

TEST(LmHeadTest, NamesAMissingHead) {
  ModelSpec spec = testing::TinySpec();
  spec.tied_head = true;
  const testing::TempFolder folder;
  const auto weights = TinyWeights(spec, folder, 3);
  spec.tied_head = false;
  EXPECT_THAT(LmHead::Create(spec, weights),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("lm_head.weight")));
}

TEST(TokenEmbeddingTest, RefusesIdsOutsideTheVocabulary) {
  const ModelSpec spec = testing::TinySpec();
  const testing::TempFolder folder;
  ASSERT_OK_AND_ASSIGN(auto embedding, TokenEmbedding::Create(spec, TinyWeights(spec, folder, 3)));
  ThreadTeam team(1);
  const auto ops = kernels::MakeCpuOps(&team);
  std::vector<float> hidden(48);
  for (const int32_t bad : {-1, 50, INT32_MAX, INT32_MIN}) {
    EXPECT_THAT(embedding->Embed({0, bad}, *ops, kernels::F32Matrix(hidden.data(), 2, 24)),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("token 1"), HasSubstr("0 to 49"),
                               HasSubstr(std::to_string(bad)))));
  }
  EXPECT_OK(embedding->Embed({0, 49}, *ops, kernels::F32Matrix(hidden.data(), 2, 24)));
}

}  // namespace
}  // namespace ccoe::model
