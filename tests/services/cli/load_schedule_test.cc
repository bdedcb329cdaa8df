#include "services/cli/load_schedule.h"

#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ccoe::cli {
namespace {

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

}  // namespace
}  // namespace ccoe::cli
