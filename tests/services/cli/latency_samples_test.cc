#include "services/cli/latency_samples.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace ccoe::cli {
namespace {

TEST(LatencySamplesTest, GiveExactFiguresOfFewValues) {
  LatencySamples samples;
  for (const double value : {4.0, 1.0, 3.0, 2.0}) samples.Add(value);
  EXPECT_EQ(samples.count(), 4);
  EXPECT_DOUBLE_EQ(samples.mean(), 2.5);
  EXPECT_DOUBLE_EQ(samples.max(), 4.0);
  EXPECT_DOUBLE_EQ(samples.StandardDeviation(), std::sqrt(1.25));
  // As numpy.percentile([1, 2, 3, 4], ...).
  EXPECT_DOUBLE_EQ(samples.Percentile(0), 1.0);
  EXPECT_DOUBLE_EQ(samples.Percentile(50), 2.5);
  EXPECT_DOUBLE_EQ(samples.Percentile(99), 3.97);
  EXPECT_DOUBLE_EQ(samples.Percentile(100), 4.0);
}

TEST(LatencySamplesTest, AreZeroWithoutValues) {
  const LatencySamples samples;
  EXPECT_EQ(samples.Percentile(99), 0.0);
  EXPECT_EQ(samples.StandardDeviation(), 0.0);
  EXPECT_EQ(samples.mean(), 0.0);
}

TEST(LatencySamplesTest, KeepPercentilesOfManyValuesWithinAThousandth) {
  std::mt19937_64 random(3);
  std::lognormal_distribution<double> latency(2.0, 1.5);
  LatencySamples samples;
  std::vector<double> all;
  for (int i = 0; i < 200000; ++i) {
    all.push_back(latency(random));
    samples.Add(all.back());
  }
  std::sort(all.begin(), all.end());
  for (const double percent : {1.0, 25.0, 50.0, 90.0, 99.0, 99.9}) {
    const double exact = all[static_cast<size_t>(percent / 100.0 * 199999.0)];
    EXPECT_NEAR(samples.Percentile(percent), exact, exact * 0.0011) << percent;
  }
  EXPECT_EQ(samples.Percentile(100), samples.max());
}

TEST(LatencySamplesTest, TakeValuesOfAnySize) {
  LatencySamples samples;
  for (const double value : {0.0, -1.0, 1e300}) samples.Add(value);
  EXPECT_EQ(samples.Percentile(0), 0.0);
  EXPECT_EQ(samples.Percentile(100), 1e300);
}

}  // namespace
}  // namespace ccoe::cli
