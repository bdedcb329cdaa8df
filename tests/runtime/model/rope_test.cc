#include "runtime/model/rope.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"

namespace ccoe::model {
namespace {

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

TEST(RopeTest, ARowDependsOnItsPositionAlone) {
  const std::vector<float> frequencies = {1.0f, 0.25f};
  std::vector<float> cos(6), sin(6), one_cos(2), one_sin(2);
  RopeRows(frequencies, {7, 0, 100000}, cos.data(), sin.data());
  RopeRows(frequencies, {100000}, one_cos.data(), one_sin.data());
  EXPECT_EQ(cos[4], one_cos[0]);
  EXPECT_EQ(sin[5], one_sin[1]);
  EXPECT_EQ(cos[2], 1.0f);
  EXPECT_EQ(sin[2], 0.0f);
  EXPECT_FLOAT_EQ(cos[0], std::cos(7.0f));
  EXPECT_FLOAT_EQ(sin[1], std::sin(1.75f));
}

}  // namespace
}  // namespace ccoe::model
