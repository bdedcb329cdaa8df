// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/sampler.h"

#include <cmath>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::engine {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(SamplerTest, TheOpIsGivenWhatTheQueryAsksFor) {
  SamplingParams params;
  params.temperature = 0.7f;
  params.top_k = 40;
  params.top_p = 0.9f;
  params.min_p = 0.05f;
  params.repetition_penalty = 1.3f;
  params.presence_penalty = 0.5f;
  params.frequency_penalty = 0.25f;
  params.logprobs = 3;
  TokenCounts counts;
  counts.AddPrompt(std::vector<int32_t>{4, 5, 4});
  counts.AddAnswer(5);
  counts.AddAnswer(6);
  counts.AddAnswer(6);
  const std::vector<int32_t> held_back = {7, 8};
  const kernels::SampleRow row = SampleRowFor({&params, &counts, held_back, 17, 3});
  EXPECT_EQ(row.temperature, 0.7f);
  EXPECT_EQ(row.top_k, 40);
  EXPECT_EQ(row.top_p, 0.9f);
  EXPECT_EQ(row.min_p, 0.05f);
  EXPECT_EQ(row.repetition_penalty, 1.3f);
  EXPECT_EQ(row.presence_penalty, 0.5f);
  EXPECT_EQ(row.frequency_penalty, 0.25f);
  EXPECT_EQ(row.logprobs, 3);
  EXPECT_EQ(row.uniform, UniformAt(17, 3));
  EXPECT_THAT(row.held_back, ElementsAre(7, 8));
  std::vector<int32_t> seen;
  for (const kernels::TokenCount& count : row.counts) {
    seen.insert(seen.end(), {count.id, count.answer_count});
  }
  EXPECT_THAT(seen, ElementsAre(4, 0, 5, 1, 6, 2));
}

TEST(SamplerTest, WithoutAPenaltyNothingIsCounted) {
  SamplingParams params;
  TokenCounts counts;
  counts.AddAnswer(5);
  EXPECT_FALSE(NeedsCounts(params));
  EXPECT_THAT(SampleRowFor({&params, &counts, {}, 0, 0}).counts, IsEmpty());
  params.presence_penalty = -1.0f;
  EXPECT_TRUE(NeedsCounts(params));
  EXPECT_THAT(SampleRowFor({&params, &counts, {}, 0, 0}).counts, SizeIs(1));
}

TEST(SamplerTest, TheUniformDependsOnSeedAndPositionAlone) {
  EXPECT_EQ(UniformAt(5, 10), UniformAt(5, 10));
  EXPECT_NE(UniformAt(5, 10), UniformAt(5, 11));
  EXPECT_NE(UniformAt(5, 10), UniformAt(6, 10));
}

TEST(SamplerTest, UniformsAreUniform) {
  double sum = 0;
  std::vector<int> cells(10, 0);
  for (int i = 0; i < 20000; ++i) {
    const double u = UniformAt(i % 7, i);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
    ++cells[static_cast<int>(u * 10)];
  }
  EXPECT_NEAR(sum / 20000, 0.5, 0.01);
  for (int count : cells) EXPECT_NEAR(count, 2000, 220);
}

TEST(SamplerTest, LogprobsComeWithTheTokenWhereAsked) {
  SamplingParams params;
  kernels::SampledRow sampled;
  sampled.token_id = 4;
  sampled.logprob = -0.5f;
  sampled.best = {{4, -0.5f}, {2, -1.0f}};
  params.logprobs = 2;
  ASSERT_OK_AND_ASSIGN(GeneratedToken token, TokenOf({&params, nullptr, {}, 0, 0}, sampled));
  EXPECT_EQ(token.token_id, 4);
  EXPECT_EQ(token.logprob, -0.5f);
  ASSERT_THAT(token.best, SizeIs(2));
  EXPECT_EQ(token.best[1].token_id, 2);
  EXPECT_EQ(token.best[1].logprob, -1.0f);
  params.logprobs = -1;
  sampled.best.clear();
  ASSERT_OK_AND_ASSIGN(token, TokenOf({&params, nullptr, {}, 0, 0}, sampled));
  EXPECT_FALSE(token.logprob.has_value());
}

TEST(SamplerTest, NanAndInfinityAreAnErrorNamingTheId) {
  SamplingParams params;
  kernels::SampledRow sampled;
  sampled.nonfinite_id = 93;
  EXPECT_THAT(TokenOf({&params, nullptr, {}, 0, 12}, sampled),
              StatusIs(absl::StatusCode::kInternal,
                       AllOf(HasSubstr("position 12"), HasSubstr("token id 93"))));
}

TEST(SamplerTest, HoldingBackEverythingIsAnError) {
  SamplingParams params;
  EXPECT_THAT(TokenOf({&params, nullptr, {}, 0, 12}, kernels::SampledRow()),
              StatusIs(absl::StatusCode::kInternal,
                       AllOf(HasSubstr("position 12"), HasSubstr("held back"))));
}

}  // namespace
}  // namespace ccoe::engine
