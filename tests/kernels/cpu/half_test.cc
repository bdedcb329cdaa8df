// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/half.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"

namespace ccoe::kernels {
namespace {

uint16_t F16Bits(float value) {
  F16 half;
  FromF32(value, &half);
  return half.bits;
}

uint16_t BF16Bits(float value) {
  BF16 half;
  FromF32(value, &half);
  return half.bits;
}

TEST(HalfTest, EveryF16SurvivesTheWayToF32AndBack) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = ToF32(F16{static_cast<uint16_t>(bits)});
    if ((bits & 0x7c00) == 0x7c00 && (bits & 0x3ff) != 0) {
      EXPECT_TRUE(std::isnan(value));
      EXPECT_TRUE(std::isnan(ToF32(F16{F16Bits(value)})));
    } else {
      EXPECT_EQ(F16Bits(value), bits);
    }
  }
}

TEST(HalfTest, EveryBF16SurvivesTheWayToF32AndBack) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = ToF32(BF16{static_cast<uint16_t>(bits)});
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(ToF32(BF16{BF16Bits(value)})));
    } else {
      EXPECT_EQ(BF16Bits(value), bits);
    }
  }
}

TEST(HalfTest, F16HasTheValuesOfIeee754) {
  EXPECT_EQ(ToF32(F16{0x3c00}), 1.0f);
  EXPECT_EQ(ToF32(F16{0xc000}), -2.0f);
  EXPECT_EQ(ToF32(F16{0x7bff}), 65504.0f);
  EXPECT_EQ(ToF32(F16{0x0001}), 0x1p-24f);
  EXPECT_EQ(ToF32(F16{0x03ff}), 1023 * 0x1p-24f);
  EXPECT_EQ(ToF32(F16{0x0400}), 0x1p-14f);
  EXPECT_EQ(ToF32(F16{0x7c00}), std::numeric_limits<float>::infinity());
}

TEST(HalfTest, NarrowingRoundsToNearestEven) {
  EXPECT_EQ(F16Bits(1.0f + 0x1p-11f), 0x3c00);             // a tie, down to even
  EXPECT_EQ(F16Bits(1.0f + 3 * 0x1p-11f), 0x3c02);         // a tie, up to even
  EXPECT_EQ(F16Bits(1.0f + 0x1p-11f + 0x1p-20f), 0x3c01);  // above the tie
  EXPECT_EQ(F16Bits(0x1p-25f), 0x0000);                    // half the smallest subnormal
  EXPECT_EQ(F16Bits(0x1.8p-24f), 0x0002);                  // one and a half of it
  EXPECT_EQ(F16Bits(65519.0f), 0x7bff);
  EXPECT_EQ(F16Bits(65520.0f), 0x7c00);                    // rounds out of range
  EXPECT_EQ(BF16Bits(FloatFromBits(0x3f808000)), 0x3f80);  // a tie, down to even
  EXPECT_EQ(BF16Bits(FloatFromBits(0x3f818000)), 0x3f82);  // a tie, up to even
  EXPECT_EQ(BF16Bits(FloatFromBits(0x3f808001)), 0x3f81);
  EXPECT_TRUE(std::isnan(ToF32(BF16{BF16Bits(FloatFromBits(0x7f800001))})));
}

}  // namespace
}  // namespace ccoe::kernels
