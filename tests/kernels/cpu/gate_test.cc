// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/gate.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace ccoe::kernels {
namespace {

// The conformance suite has the forms; this has broken scores, and teams.

struct Fixture {
  explicit Fixture(std::vector<float> values, int64_t rows = 1)
      : logits(std::move(values)), experts(2 * rows), weights(2 * rows) {
    args.logits = F32Matrix(logits.data(), rows, static_cast<int64_t>(logits.size()) / rows);
    args.form.top_k = 2;
    args.experts = experts.data();
    args.weights = weights.data();
  }

  std::vector<float> logits;
  std::vector<int32_t> experts;
  std::vector<float> weights;
  TopKGateArgs args;
};

TEST(CpuTopKGateTest, ARowThatIsNotANumberChoosesExpertsAndStaysOne) {
  ThreadTeam team(1);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Fixture f({1.0f, nan, 2.0f});
  CpuTopKGate(&team, f.args);
  EXPECT_EQ(f.experts, (std::vector<int32_t>{0, 1}));
  EXPECT_TRUE(std::isnan(f.weights[0]));
}

TEST(CpuTopKGateTest, OneScoreThatIsNotANumberLosesToAllOthers) {
  ThreadTeam team(1);
  Fixture f({1.0f, std::numeric_limits<float>::quiet_NaN(), 2.0f});
  f.args.form.score = RouterScore::kSigmoid;
  CpuTopKGate(&team, f.args);
  EXPECT_EQ(f.experts, (std::vector<int32_t>{0, 2}));
}

TEST(CpuTopKGateTest, AMaskThatLeavesTooFewEndsTheRowEarly) {
  ThreadTeam team(1);
  Fixture f({1.0f, 2.0f, 3.0f});
  const float masked = -std::numeric_limits<float>::infinity();
  const std::vector<float> steering = {0.0f, masked, masked};
  const std::vector<int32_t> row_steering = {0};
  f.args.steering = F32Matrix(steering.data(), 1, 3);
  f.args.row_steering = row_steering;
  CpuTopKGate(&team, f.args);
  EXPECT_EQ(f.experts, (std::vector<int32_t>{0, -1}));
  EXPECT_EQ(f.weights[1], 0.0f);
}

TEST(CpuTopKGateTest, ManyRowsGiveTheSameBitsOnAnyTeam) {
  constexpr int64_t kRows = 500, kExperts = 64;
  std::vector<float> logits(kRows * kExperts);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i * 37 % 101) / 20.0f;
  Fixture one(logits, kRows), three(logits, kRows);
  ThreadTeam team(1), team_of_three(3);
  CpuTopKGate(&team, one.args);
  CpuTopKGate(&team_of_three, three.args);
  EXPECT_EQ(one.experts, three.experts);
  EXPECT_EQ(one.weights, three.weights);
}

TEST(CpuTopKGateDeathTest, MoreExpertsChosenThanThereAreAborts) {
  ThreadTeam team(1);
  Fixture f({1.0f});
  EXPECT_DEATH(CpuTopKGate(&team, f.args), "top_k <= experts");
}

}  // namespace
}  // namespace ccoe::kernels
