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

RopeSpec YarnSpec() {
  RopeSpec spec;
  spec.theta = 10000.0;
  spec.scaling = RopeScaling::kYarn;
  spec.factor = 40.0;
  spec.original_max_positions = 4096;
  return spec;
}

TEST(RopeTest, YarnKeepsFrequenciesThatTurnOftenDividesThoseThatHardlyTurnAndBlendsBetween) {
  const RopeSpec spec = YarnSpec();
  const auto scaled = RopeFrequencies(spec, 64);
  const auto plain = RopeFrequencies(RopeSpec{}, 64);
  // 32 turns over 4096 positions are made by frequency 64 ln(4096 / 64 pi) / 2 ln(10000) = 10.47,
  // one turn by 22.51; the blend runs over whole places.
  for (size_t i = 0; i <= 10; ++i) EXPECT_EQ(scaled[i], plain[i]) << i;
  for (size_t i = 23; i < 32; ++i) EXPECT_FLOAT_EQ(scaled[i], plain[i] / 40.0f) << i;
  for (size_t i = 11; i < 23; ++i) {
    const float kept = 1.0f - static_cast<float>(i - 10) / 13.0f;
    EXPECT_FLOAT_EQ(scaled[i], plain[i] * kept + plain[i] / 40.0f * (1.0f - kept)) << i;
  }
}

TEST(RopeTest, YarnStaysFiniteAtTheEdgesOfItsRange) {
  for (const int64_t original : {int64_t{1}, int64_t{7}, int64_t{1} << 30}) {
    for (const double beta : {1e-9, 1.0, 1e9}) {
      for (const double theta : {1.0000001, 2.0, 1e300}) {
        RopeSpec spec = YarnSpec();
        spec.original_max_positions = original;
        spec.beta_fast = spec.beta_slow = beta;
        spec.theta = theta;
        for (const float frequency : RopeFrequencies(spec, 8))
          EXPECT_TRUE(std::isfinite(frequency));
      }
    }
  }
}

TEST(RopeTest, YarnAloneMultipliesCosinesAndSinesByItsAttentionFactor) {
  RopeSpec spec = YarnSpec();
  spec.attention_factor = 1.25;
  EXPECT_EQ(RopeMagnitude(spec), 1.25f);
  spec.scaling = RopeScaling::kLinear;
  EXPECT_EQ(RopeMagnitude(spec), 1.0f);
}

}  // namespace
}  // namespace ccoe::model
