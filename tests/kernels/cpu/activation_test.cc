#include "kernels/cpu/activation.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace ccoe::kernels {
namespace {

// The conformance suite has the values; this has the ends of the number line.

float Activate(Activation activation, float gate) {
  ThreadTeam team(1);
  const float up = 1.0f;
  float out = 0.0f;
  CpuGatedActivation(&team, activation, F32Matrix(&gate, 1, 1), F32Matrix(&up, 1, 1),
                     F32Matrix(&out, 1, 1));
  return out;
}

class CpuActivationTest : public ::testing::TestWithParam<Activation> {};

TEST_P(CpuActivationTest, FarOutItIsTheIdentityOrZero) {
  for (float far : {100.0f, 1e6f, 1e30f}) {
    EXPECT_EQ(Activate(GetParam(), far), far);
    EXPECT_NEAR(Activate(GetParam(), -far), 0.0f, 1e-30f);
  }
}

TEST_P(CpuActivationTest, ZeroGivesZeroAndNotANumberStaysOne) {
  EXPECT_EQ(Activate(GetParam(), 0.0f), 0.0f);
  EXPECT_TRUE(std::isnan(Activate(GetParam(), std::numeric_limits<float>::quiet_NaN())));
}

INSTANTIATE_TEST_SUITE_P(All, CpuActivationTest,
                         ::testing::Values(Activation::kSilu, Activation::kGeluTanh,
                                           Activation::kGeluErf));

}  // namespace
}  // namespace ccoe::kernels
