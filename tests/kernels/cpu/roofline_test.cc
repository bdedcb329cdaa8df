// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/roofline.h"

#include <cmath>

#include "gtest/gtest.h"

namespace ccoe::kernels {
namespace {

TEST(RooflineTest, MeasuresPositiveFiniteRates) {
  ThreadTeam team(2);
  ReadBandwidthOptions read;
  read.bytes = 4 << 20;
  read.passes = 1;
  const double bandwidth = MeasureReadBandwidth(&team, read);
  EXPECT_TRUE(std::isfinite(bandwidth));
  EXPECT_GT(bandwidth, 0);
  SgemmOptions sgemm;
  sgemm.rows = sgemm.in_features = sgemm.out_features = 16;
  sgemm.passes = 1;
  const absl::StatusOr<double> measured = MeasureSgemm(1, sgemm);
  ASSERT_TRUE(measured.ok()) << measured.status();
  const double rate = *measured;
  EXPECT_TRUE(std::isfinite(rate));
  EXPECT_GT(rate, 0);
}

}  // namespace
}  // namespace ccoe::kernels
