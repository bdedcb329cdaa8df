#include "runtime/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
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

std::vector<float> RandomLogits(size_t vocab, int seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, 3.0f);
  std::vector<float> logits(vocab);
  for (float& logit : logits) logit = normal(generator);
  return logits;
}

// The same rules in the slowest and plainest way: the probability of each id.
std::vector<double> Reference(const std::vector<float>& raw, const SamplingParams& p,
                              const TokenCounts& counts, const std::vector<int32_t>& held_back) {
  std::vector<double> logits(raw.begin(), raw.end());
  for (const auto& [id, count] : counts.answer_counts()) {
    logits[id] =
        logits[id] > 0 ? logits[id] / p.repetition_penalty : logits[id] * p.repetition_penalty;
    if (count > 0) logits[id] -= p.presence_penalty + p.frequency_penalty * count;
  }
  for (int32_t id : held_back) logits[id] = -std::numeric_limits<double>::infinity();
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  std::vector<double> weight(logits.size());
  for (size_t i = 0; i < logits.size(); ++i)
    weight[i] = std::exp((logits[i] - logits[order[0]]) / p.temperature);
  size_t kept = order.size();
  if (p.top_k > 0) kept = std::min<size_t>(kept, p.top_k);
  double total = 0;
  for (size_t i = 0; i < kept; ++i) total += weight[order[i]];
  double sum = 0;
  for (size_t i = 0; i < kept; ++i) {
    sum += weight[order[i]];
    if (p.top_p < 1 && sum >= p.top_p * total) kept = i + 1;
  }
  std::vector<double> probability(logits.size(), 0.0);
  total = 0;
  for (size_t i = 0; i < kept; ++i) {
    if (weight[order[i]] < p.min_p) continue;
    probability[order[i]] = weight[order[i]];
    total += weight[order[i]];
  }
  for (double& value : probability) value /= total;
  return probability;
}

SampleRequest RequestFor(const std::vector<float>& logits, const SamplingParams& params,
                         const TokenCounts& counts, const std::vector<int32_t>& held_back = {}) {
  SampleRequest request;
  request.logits = logits;
  request.params = &params;
  request.counts = &counts;
  request.held_back = held_back;
  return request;
}

// Draws often and compares with the reference: no id the reference excludes, frequencies within
// five standard errors.
void ExpectFollowsReference(const std::vector<float>& logits, const SamplingParams& params,
                            const TokenCounts& counts = {},
                            const std::vector<int32_t>& held_back = {}) {
  constexpr int kDraws = 20000;
  const std::vector<double> expected = Reference(logits, params, counts, held_back);
  std::vector<int> drawn(logits.size(), 0);
  Sampler sampler;
  SampleRequest request = RequestFor(logits, params, counts, held_back);
  request.seed = 17;
  for (int i = 0; i < kDraws; ++i) {
    request.position = i;
    ASSERT_OK_AND_ASSIGN(const GeneratedToken token, sampler.Sample(request));
    ++drawn[token.token_id];
  }
  for (size_t id = 0; id < logits.size(); ++id) {
    const double p = expected[id];
    const double error = std::sqrt(p * (1 - p) / kDraws) + 1e-9;
    EXPECT_LE(std::abs(drawn[id] / static_cast<double>(kDraws) - p), 5 * error)
        << "id " << id << ", p " << p;
  }
}

TEST(SamplerTest, DrawsFromTheWholeDistributionByDefault) {
  ExpectFollowsReference(RandomLogits(40, 1), SamplingParams());
}

TEST(SamplerTest, TemperatureSharpensAndFlattens) {
  SamplingParams params;
  params.temperature = 0.5f;
  ExpectFollowsReference(RandomLogits(40, 2), params);
  params.temperature = 3.0f;
  ExpectFollowsReference(RandomLogits(40, 2), params);
}

TEST(SamplerTest, FiltersKeepWhatTheReferenceKeeps) {
  SamplingParams params;
  params.top_k = 5;
  ExpectFollowsReference(RandomLogits(40, 3), params);
  params.top_k = 0;
  params.top_p = 0.7f;
  ExpectFollowsReference(RandomLogits(40, 4), params);
  params.top_p = 1.0f;
  params.min_p = 0.1f;
  ExpectFollowsReference(RandomLogits(40, 5), params);
}

TEST(SamplerTest, AllFiltersAndPenaltiesTogetherFollowTheReference) {
  SamplingParams params;
  params.temperature = 1.7f;
  params.top_k = 20;
  params.top_p = 0.9f;
  params.min_p = 0.05f;
  params.repetition_penalty = 1.3f;
  params.presence_penalty = 0.5f;
  params.frequency_penalty = 0.25f;
  TokenCounts counts;
  counts.AddPrompt(std::vector<int32_t>{0, 1, 2, 3});
  for (int32_t id : {3, 3, 4, 5}) counts.AddAnswer(id);
  ExpectFollowsReference(RandomLogits(40, 6), params, counts, {7, 8});
}

TEST(SamplerTest, TopPOfAFlatDistributionSortsBeyondTheFirstChunk) {
  const std::vector<float> logits(1000, 0.5f);
  SamplingParams params;
  params.top_p = 0.5f;
  TokenCounts counts;
  Sampler sampler;
  SampleRequest request = RequestFor(logits, params, counts);
  int32_t highest = 0;
  for (request.position = 0; request.position < 4000; ++request.position) {
    ASSERT_OK_AND_ASSIGN(const GeneratedToken token, sampler.Sample(request));
    highest = std::max(highest, token.token_id);
  }
  EXPECT_LT(highest, 500);  // ties: lower ids first
  EXPECT_GT(highest, 480);
}

TEST(SamplerTest, GreedyTakesTheHighestLogitAndTheLowestIdAmongEquals) {
  SamplingParams params;
  params.temperature = 0.0f;
  TokenCounts counts;
  Sampler sampler;
  for (size_t vocab : {1, 7, 8, 9, 31, 1000}) {
    std::vector<float> logits = RandomLogits(vocab, 11);
    const size_t first = vocab / 3;
    logits[first] = 100.0f;
    logits[vocab - 1] = 100.0f;
    ASSERT_OK_AND_ASSIGN(const GeneratedToken token,
                         sampler.Sample(RequestFor(logits, params, counts)));
    EXPECT_EQ(token.token_id, static_cast<int32_t>(std::min(first, vocab - 1)));
  }
}

TEST(SamplerTest, GreedyComesAfterPenaltiesAndHeldBackIds) {
  SamplingParams params;
  params.temperature = 0.0f;
  params.repetition_penalty = 2.0f;
  const std::vector<float> logits = {4.0f, 3.0f, 2.5f, -1.0f};
  TokenCounts counts;
  counts.AddPrompt(std::vector<int32_t>{0});
  Sampler sampler;
  ASSERT_OK_AND_ASSIGN(GeneratedToken token, sampler.Sample(RequestFor(logits, params, counts)));
  EXPECT_EQ(token.token_id, 1);  // 4 / 2 < 3
  ASSERT_OK_AND_ASSIGN(token, sampler.Sample(RequestFor(logits, params, counts, {1})));
  EXPECT_EQ(token.token_id, 2);
}

TEST(SamplerTest, RepetitionPenaltyPushesNegativeLogitsDown) {
  SamplingParams params;
  params.temperature = 0.0f;
  params.repetition_penalty = 2.0f;
  const std::vector<float> logits = {-1.0f, -1.5f};
  TokenCounts counts;
  counts.AddAnswer(0);
  Sampler sampler;
  ASSERT_OK_AND_ASSIGN(const GeneratedToken token,
                       sampler.Sample(RequestFor(logits, params, counts)));
  EXPECT_EQ(token.token_id, 1);
}

TEST(SamplerTest, PresenceAndFrequencyCountTheAnswerOnly) {
  SamplingParams params;
  params.temperature = 0.0f;
  params.presence_penalty = 1.0f;
  params.frequency_penalty = 0.5f;
  const std::vector<float> logits = {2.0f, 1.5f};
  TokenCounts counts;
  counts.AddPrompt(std::vector<int32_t>{0, 0, 0});
  Sampler sampler;
  ASSERT_OK_AND_ASSIGN(GeneratedToken token, sampler.Sample(RequestFor(logits, params, counts)));
  EXPECT_EQ(token.token_id, 0);
  counts.AddAnswer(0);
  ASSERT_OK_AND_ASSIGN(token, sampler.Sample(RequestFor(logits, params, counts)));
  EXPECT_EQ(token.token_id, 1);  // 2 - 1 - 0.5 < 1.5
}

TEST(SamplerTest, LogprobsAreOfTheRawDistribution) {
  SamplingParams params;
  params.temperature = 0.0f;
  params.repetition_penalty = 5.0f;
  params.logprobs = 2;
  const std::vector<float> logits = {3.0f, 1.0f, 2.0f, 0.0f};
  TokenCounts counts;
  counts.AddPrompt(std::vector<int32_t>{0});
  Sampler sampler;
  ASSERT_OK_AND_ASSIGN(const GeneratedToken token,
                       sampler.Sample(RequestFor(logits, params, counts)));
  const double log_sum = std::log(std::exp(3.0) + std::exp(1.0) + std::exp(2.0) + 1.0);
  EXPECT_EQ(token.token_id, 2);  // 3 / 5 < 2
  EXPECT_NEAR(*token.logprob, 2.0 - log_sum, 1e-6);
  ASSERT_EQ(token.best.size(), 2u);
  EXPECT_EQ(token.best[0].token_id, 0);
  EXPECT_NEAR(token.best[0].logprob, 3.0 - log_sum, 1e-6);
  EXPECT_EQ(token.best[1].token_id, 2);
}

TEST(SamplerTest, LogprobsZeroGivesTheChosenTokensAlone) {
  SamplingParams params;
  params.logprobs = 0;
  TokenCounts counts;
  Sampler sampler;
  const std::vector<float> logits = RandomLogits(10, 1);
  ASSERT_OK_AND_ASSIGN(const GeneratedToken token,
                       sampler.Sample(RequestFor(logits, params, counts)));
  EXPECT_TRUE(token.logprob.has_value());
  EXPECT_TRUE(token.best.empty());
}

TEST(SamplerTest, TheDrawDependsOnSeedAndPositionAlone) {
  SamplingParams params;
  TokenCounts counts;
  const std::vector<float> logits = RandomLogits(500, 3);
  const auto draw = [&](uint64_t seed, int from, int to) {
    Sampler sampler;
    SampleRequest request = RequestFor(logits, params, counts);
    request.seed = seed;
    std::vector<int32_t> ids;
    for (request.position = from; request.position < to; ++request.position) {
      ids.push_back(sampler.Sample(request)->token_id);
    }
    return ids;
  };
  const std::vector<int32_t> all = draw(5, 0, 20);
  EXPECT_EQ(draw(5, 0, 20), all);
  EXPECT_EQ(draw(5, 10, 20), std::vector<int32_t>(all.begin() + 10, all.end()));
  EXPECT_NE(draw(6, 0, 20), all);
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

TEST(SamplerTest, NanAndInfinityAreAnErrorNamingTheId) {
  SamplingParams params;
  TokenCounts counts;
  Sampler sampler;
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity()}) {
    for (float temperature : {0.0f, 1.0f}) {
      params.temperature = temperature;
      std::vector<float> logits = RandomLogits(100, 1);
      logits[93] = bad;
      EXPECT_THAT(sampler.Sample(RequestFor(logits, params, counts)),
                  StatusIs(absl::StatusCode::kInternal,
                           AllOf(HasSubstr("position 0"), HasSubstr("token id 93"))));
    }
  }
}

TEST(SamplerTest, HoldingBackEverythingIsAnError) {
  SamplingParams params;
  TokenCounts counts;
  Sampler sampler;
  const std::vector<float> logits = {1.0f, 2.0f};
  EXPECT_THAT(sampler.Sample(RequestFor(logits, params, counts, {0, 1})),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("held back")));
}

TEST(SamplerTest, ExtremeValuesStayInRange) {
  SamplingParams params;
  params.temperature = 1e-38f;
  params.repetition_penalty = 1e-38f;
  const std::vector<float> logits = {3e38f, 2e38f, -3e38f};
  TokenCounts counts;
  counts.AddPrompt(std::vector<int32_t>{1, 2});
  Sampler sampler;
  for (float top_p : {1.0f, 0.5f}) {
    params.top_p = top_p;
    ASSERT_OK_AND_ASSIGN(const GeneratedToken token,
                         sampler.Sample(RequestFor(logits, params, counts)));
    EXPECT_EQ(token.token_id, 1);
  }
}

}  // namespace
}  // namespace ccoe::engine
