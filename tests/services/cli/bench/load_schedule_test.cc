// SPDX-License-Identifier: Apache-2.0
#include "services/cli/bench/load_schedule.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::Ge;
using ::testing::Lt;
using ::testing::SizeIs;

struct Gaps {
  double mean = 0.0;
  double variation = 0.0;  // standard deviation over mean
};

Gaps Measure(const ArrivalOptions& options) {
  constexpr int kCount = 20000;
  Arrivals arrivals(options);
  double sum = 0.0;
  double squares = 0.0;
  double last = 0.0;
  for (int i = 0; i < kCount; ++i) {
    const double due = absl::ToDoubleSeconds(arrivals.Next());
    EXPECT_GE(due, last);
    sum += due - last;
    squares += (due - last) * (due - last);
    last = due;
  }
  const double mean = sum / kCount;
  return {mean, std::sqrt(squares / kCount - mean * mean) / mean};
}

TEST(ArrivalsTest, ArePoissonWithBurstinessOne) {
  const Gaps gaps = Measure({/*rate=*/50.0, /*burstiness=*/1.0, /*seed=*/1});
  EXPECT_NEAR(gaps.mean, 0.02, 0.001);
  EXPECT_NEAR(gaps.variation, 1.0, 0.05) << "an exponential distribution's";
}

TEST(ArrivalsTest, KeepTheRateWhateverTheBurstiness) {
  for (const double burstiness : {0.25, 4.0}) {
    const Gaps gaps = Measure({50.0, burstiness, 1});
    EXPECT_NEAR(gaps.mean, 0.02, 0.001) << burstiness;
    EXPECT_NEAR(gaps.variation, 1.0 / std::sqrt(burstiness), 0.1) << burstiness;
  }
}

TEST(ArrivalsTest, AreAllAtOnceAtAnInfiniteRate) {
  Arrivals arrivals({std::numeric_limits<double>::infinity(), 1.0, 1});
  EXPECT_EQ(arrivals.Next(), absl::ZeroDuration());
  EXPECT_EQ(arrivals.Next(), absl::ZeroDuration());
}

TEST(ArrivalsTest, FollowFromTheSeed) {
  const auto first = [](uint64_t seed) { return Arrivals({50.0, 1.0, seed}).Next(); };
  EXPECT_EQ(first(3), first(3));
  EXPECT_NE(first(3), first(4));
}

std::map<std::string, int> Counts(const ExpertChoice& choice) {
  std::map<std::string, int> counts;
  for (int64_t i = 0; i < 11000; ++i) ++counts[choice.Expert(i)];
  return counts;
}

TEST(ExpertChoiceTest, FollowsZipfsLaw) {
  const auto counts = Counts(ExpertChoice({"a", "b", "c"}, 1.0, 5));
  // 1, 1/2, 1/3 of 11/6.
  EXPECT_NEAR(counts.at("a"), 6000, 250);
  EXPECT_NEAR(counts.at("b"), 3000, 250);
  EXPECT_NEAR(counts.at("c"), 2000, 250);
}

TEST(ExpertChoiceTest, AsksForAllAlikeWithExponentZero) {
  const auto counts = Counts(ExpertChoice({"a", "b"}, 0.0, 5));
  EXPECT_NEAR(counts.at("a"), 5500, 250);
}

TEST(ExpertChoiceTest, LeavesTheChoiceToTheRouterWithoutExperts) {
  EXPECT_EQ(ExpertChoice({}, 1.0, 5).Expert(7), "");
}

TEST(ExpertChoiceTest, GivesARequestTheSameExpertInEveryRun) {
  const ExpertChoice choice({"a", "b", "c", "d"}, 0.0, 5);
  const ExpertChoice again({"a", "b", "c", "d"}, 0.0, 5);
  for (int64_t i = 99; i >= 0; --i) EXPECT_EQ(choice.Expert(i), again.Expert(i));
}

RandomPromptOptions Options() {
  RandomPromptOptions options;
  options.vocabulary = 50;
  options.input_tokens = 40;
  options.output_tokens = 10;
  options.seed = 7;
  return options;
}

TEST(RandomPromptsTest, HaveTheGivenLengthAndStayInTheVocabulary) {
  const LoadPrompt prompt = RandomPrompts(Options())(3);
  EXPECT_EQ(prompt.request.id, "3");
  EXPECT_FALSE(prompt.request.is_text);
  EXPECT_THAT(prompt.request.token_ids, AllOf(SizeIs(40), Each(AllOf(Ge(0), Lt(50)))));
  EXPECT_EQ(prompt.output_tokens, 10);
}

TEST(RandomPromptsTest, AreTheSameInWhateverOrderTheyAreMade) {
  const LoadPrompts one = RandomPrompts(Options());
  const LoadPrompts other = RandomPrompts(Options());
  const auto fifth = one(5).request.token_ids;
  other(6);
  EXPECT_EQ(other(5).request.token_ids, fifth);
  EXPECT_NE(other(6).request.token_ids, fifth);
}

TEST(RandomPromptsTest, SpreadLengthsOverTheRange) {
  RandomPromptOptions options = Options();
  options.range_ratio = 0.5;
  const LoadPrompts prompts = RandomPrompts(options);
  size_t shortest = 1000;
  size_t longest = 0;
  for (int64_t i = 0; i < 500; ++i) {
    const LoadPrompt prompt = prompts(i);
    shortest = std::min(shortest, prompt.request.token_ids.size());
    longest = std::max(longest, prompt.request.token_ids.size());
    EXPECT_THAT(prompt.output_tokens, AllOf(Ge(5), ::testing::Le(15)));
  }
  EXPECT_EQ(shortest, 20u);
  EXPECT_EQ(longest, 60u);
}

TEST(RandomPromptsTest, BeginAllWithTheSamePrefix) {
  RandomPromptOptions options = Options();
  options.prefix_tokens = 8;
  const LoadPrompts prompts = RandomPrompts(options);
  const auto one = prompts(0).request.token_ids;
  const auto other = prompts(1).request.token_ids;
  ASSERT_THAT(one, SizeIs(48));
  EXPECT_TRUE(std::equal(one.begin(), one.begin() + 8, other.begin()));
  EXPECT_NE(one, other);
}

TEST(FilePromptsTest, GoRoundAndRoundWithIdsOfTheirOwn) {
  std::vector<Request> requests(2);
  requests[0].id = "a";
  requests[1].id = "b";
  const LoadPrompts prompts = FilePrompts(requests, 9);
  EXPECT_EQ(prompts(1).request.id, "b");
  EXPECT_EQ(prompts(2).request.id, "a#2");
  EXPECT_EQ(prompts(5).request.id, "b#3");
  EXPECT_EQ(prompts(5).output_tokens, 9);
}

TEST(FindVocabularyTest, FindsWhereTheIdsEnd) {
  for (const int32_t size : {1, 2, 97, 128256, 2147483647}) {
    ASSERT_OK_AND_ASSIGN(
        const int32_t found,
        FindVocabulary([size](int32_t id) -> absl::StatusOr<bool> { return id < size; }));
    EXPECT_EQ(found, size);
  }
}

TEST(FindVocabularyTest, EndsWithTheServersError) {
  EXPECT_THAT(FindVocabulary([](int32_t) -> absl::StatusOr<bool> { return false; }),
              testing::StatusIs(absl::StatusCode::kUnimplemented));
  EXPECT_THAT(FindVocabulary([](int32_t id) -> absl::StatusOr<bool> {
                if (id == 0) return true;
                return absl::UnavailableError("gone");
              }),
              testing::StatusIs(absl::StatusCode::kUnavailable));
}

}  // namespace

}  // namespace ccoe::cli
