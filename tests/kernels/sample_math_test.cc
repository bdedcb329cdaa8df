// SPDX-License-Identifier: Apache-2.0
#include "kernels/sample_math.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace ccoe::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(SampleMathTest, WeightsAreExponentialsToTheNearestStep) {
  EXPECT_EQ(WeightOf(3.0f, 3.0f, 0.5f), kOneWeight);
  EXPECT_EQ(WeightOf(-0.0f, 0.0f, 0.5f), kOneWeight);
  for (float x = 0.0f; x > -40.0f; x -= 0.00371f) {
    const double exact = std::exp(static_cast<double>(x)) * static_cast<double>(kOneWeight);
    EXPECT_NEAR(static_cast<double>(WeightOf(x, 0.0f, 1.0f)), exact, exact * 4e-7 + 0.5) << x;
  }
}

TEST(SampleMathTest, WhatIsFarBelowTheBestWeighsNothing) {
  for (const float logit : {-3e38f, -kInfinity, -29.0f, -28.5f}) {
    EXPECT_EQ(WeightOf(logit, 0.0f, 1.0f), 0u);
  }
  EXPECT_EQ(WeightOf(1.0f, 2.0f, 1e-38f), 0u);
  EXPECT_EQ(WeightOf(-3e38f, 3e38f, 10.0f), 0u);
  EXPECT_EQ(WeightOf(-28.0f, 0.0f, 1.0f), 1u);
}

TEST(SampleMathTest, TheOrderIsThatOfTheLogitsAndCanBeTakenBack) {
  const std::vector<float> rising = {-kInfinity, -3e38f, -1.5f, -1e-45f, 0.0f,
                                     1e-45f,     1.0f,   1.5f,  3e38f,   kInfinity};
  for (size_t i = 0; i < rising.size(); ++i) {
    EXPECT_EQ(LogitAt(LogitOrder(rising[i])), rising[i]);
  }
  for (size_t i = 1; i < rising.size(); ++i) {
    EXPECT_LT(LogitOrder(rising[i - 1]), LogitOrder(rising[i]));
  }
  EXPECT_EQ(LogitOrder(-0.0f), LogitOrder(0.0f));
}

TEST(SampleMathTest, PartsOfASumAreExact) {
  EXPECT_EQ(PartBelow(FractionOf(0.0), 10), 0u);
  EXPECT_EQ(PartBelow(FractionOf(0.5), 11), 5u);
  EXPECT_EQ(PartAtLeast(FractionOf(0.5), 11), 6u);
  EXPECT_EQ(PartAtLeast(FractionOf(0.5), 10), 5u);
  EXPECT_EQ(PartAtLeast(0, 10), 1u);
  const double highest = std::nextafter(1.0, 0.0);
  for (const uint64_t total : {uint64_t{1}, kOneWeight, uint64_t{1} << 63}) {
    EXPECT_LT(PartBelow(FractionOf(highest), total), total);
    EXPECT_LE(PartAtLeast(FractionOf(highest), total), total);
  }
}

TEST(SampleMathTest, LeastWeightsRoundUp) {
  EXPECT_EQ(LeastWeight(0.0f), 0u);
  EXPECT_EQ(LeastWeight(0.5f), kOneWeight / 2);
  EXPECT_EQ(LeastWeight(1e-30f), 1u);
  EXPECT_LE(LeastWeight(std::nextafter(1.0f, 0.0f)), kOneWeight);
}

TEST(SampleMathTest, PenaltiesStayFinite) {
  EXPECT_EQ(Penalized(4.0f, 0, 2.0f, 1.0f, 1.0f), 2.0f);
  EXPECT_EQ(Penalized(-4.0f, 0, 2.0f, 1.0f, 1.0f), -8.0f);
  EXPECT_EQ(Penalized(4.0f, 3, 2.0f, 0.5f, 0.25f), 0.75f);
  EXPECT_EQ(Penalized(3e38f, 0, 1e-38f, 0.0f, 0.0f), std::numeric_limits<float>::max());
  EXPECT_EQ(Penalized(-3e38f, 0, 10.0f, 0.0f, 0.0f), std::numeric_limits<float>::lowest());
}

TEST(SampleMathTest, LogSumIsThatOfTheExponentials) {
  EXPECT_NEAR(LogSum(2.0f, kOneWeight + WeightOf(1.0f, 2.0f, 1.0f)),
              std::log(std::exp(2.0) + std::exp(1.0)), 1e-7);
}

}  // namespace
}  // namespace ccoe::kernels
