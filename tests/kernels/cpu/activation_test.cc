// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/activation.h"

#include <algorithm>
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

TEST_P(CpuActivationTest, AnElementHasTheSameBitsWhereverItIsInARow) {
  std::vector<float> gate(75), up(75), whole(75), part(75);
  for (size_t i = 0; i < gate.size(); ++i) {
    gate[i] = static_cast<float>(i) * 0.13f - 4.0f;
    up[i] = 1.0f + static_cast<float>(i);
  }
  const ActivateRowFunction activate = CpuActivateRow();
  activate(GetParam(), gate.data(), up.data(), 75, whole.data());
  for (int64_t begin : {1, 33, 74}) {
    activate(GetParam(), gate.data() + begin, up.data() + begin, 75 - begin, part.data() + begin);
    EXPECT_TRUE(std::equal(part.begin() + begin, part.end(), whole.begin() + begin)) << begin;
  }
}

INSTANTIATE_TEST_SUITE_P(All, CpuActivationTest,
                         ::testing::Values(Activation::kSilu, Activation::kGeluTanh,
                                           Activation::kGeluErf));

}  // namespace
}  // namespace ccoe::kernels
