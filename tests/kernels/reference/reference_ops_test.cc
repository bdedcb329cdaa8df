// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/reference/reference_ops.h"

#include <cmath>

#include "gtest/gtest.h"

namespace ccoe::kernels::reference {
namespace {

Dense Row(std::vector<double> values) {
  Dense row(1, static_cast<int64_t>(values.size()));
  row.values = std::move(values);
  return row;
}

TEST(ReferenceOpsTest, LinearOfASmallCaseByHand) {
  Dense weight(2, 2);
  weight.values = {1, 2, 3, 4};
  EXPECT_EQ(Linear(Row({5, 6}), weight, Row({1, 0})).values, (std::vector<double>{18, 39}));
}

TEST(ReferenceOpsTest, RmsNormOfASmallCaseByHand) {
  const Dense out = RmsNorm(Row({3, 4}), Row({1, 2}), 0);
  EXPECT_DOUBLE_EQ(out.at(0, 0), 3 / std::sqrt(12.5));
  EXPECT_DOUBLE_EQ(out.at(0, 1), 8 / std::sqrt(12.5));
}

TEST(ReferenceOpsTest, RopeByARightAngleSwapsThePair) {
  const Dense half = Rope(Row({1, 2, 3, 4}), 4, Row({0, 1}), Row({1, 0}), RopeStyle::kHalfSplit);
  EXPECT_EQ(half.values, (std::vector<double>{-3, 2, 1, 4}));
  const Dense pairs = Rope(Row({1, 2, 3, 4}), 4, Row({0, 1}), Row({1, 0}), RopeStyle::kInterleaved);
  EXPECT_EQ(pairs.values, (std::vector<double>{-2, 1, 3, 4}));
}

TEST(ReferenceOpsTest, AttentionOfTheFirstTokenIsItsValueAndEqualScoresAverage) {
  AttentionShape shape;
  Dense q(2, 1), k(2, 1), v(2, 1);
  v.values = {2, 4};
  EXPECT_EQ(Attention(shape, q, k, v).values, (std::vector<double>{2, 3}));
  shape.sliding_window = 1;
  EXPECT_EQ(Attention(shape, q, k, v).values, (std::vector<double>{2, 4}));
}

TEST(ReferenceOpsTest, ActivationsAtKnownPoints) {
  EXPECT_NEAR(Activate(Activation::kSilu, 1), 0.7310585786, 1e-10);
  EXPECT_NEAR(Activate(Activation::kGeluErf, 1), 0.8413447461, 1e-10);
  EXPECT_NEAR(Activate(Activation::kGeluTanh, 1), 0.8411919906, 1e-10);
}

std::vector<int32_t> Experts(const std::vector<Choice>& choices) {
  std::vector<int32_t> experts;
  for (const Choice& c : choices) experts.push_back(c.expert);
  return experts;
}

TEST(ReferenceOpsTest, GateOfASmallCaseByHand) {
  GateForm form;
  form.renormalize = true;
  form.scale = 2;
  const std::vector<Choice> best = Gate(form, {0, std::log(3), 0}, {}, {}, 2);
  ASSERT_EQ(Experts(best), (std::vector<int32_t>{0, 1}));
  EXPECT_DOUBLE_EQ(best[0].weight, 0.5);
  EXPECT_DOUBLE_EQ(best[1].weight, 1.5);
  EXPECT_EQ(Experts(Gate(form, {0, std::log(3), 0}, {0, -1, 0}, {}, 2)),
            (std::vector<int32_t>{0, 2}));
}

TEST(ReferenceOpsTest, GateKeepsToTheBestGroupsUnlessForced) {
  GateForm form;
  form.score = RouterScore::kSigmoid;
  form.groups = 2;
  EXPECT_EQ(Experts(Gate(form, {3, 0, 2, 2}, {}, {}, 2)), (std::vector<int32_t>{0, 1}));
  form.group_score = GroupScore::kTopTwoSum;
  EXPECT_EQ(Experts(Gate(form, {3, 0, 2, 2}, {}, {}, 2)), (std::vector<int32_t>{2, 3}));
  EXPECT_EQ(Experts(Gate(form, {3, 0, 2, 2}, {}, {0, INFINITY, -INFINITY, 0}, 2)),
            (std::vector<int32_t>{1, 3}));
}

TEST(ReferenceOpsTest, GatedFfnOfASmallCaseByHand) {
  Dense one(1, 1);
  one.values = {1};
  EXPECT_NEAR(GatedFfn(Activation::kSilu, Row({2}), one, one, one).at(0, 0),
              2 * Activate(Activation::kSilu, 2), 1e-12);
}

TEST(ReferenceOpsTest, SampleProbabilitiesOfASmallCaseByHand) {
  const std::vector<double> logits = {std::log(4), 0, std::log(3), std::log(2)};
  SampleRow row;
  EXPECT_EQ(SampleProbabilities(row, logits), (std::vector<double>{1, 0, 0, 0}));
  row.temperature = 1.0f;
  row.top_k = 3;     // 4, 3, 2 of 9
  row.top_p = 0.8f;  // of 7.2: all three
  row.min_p = 0.6f;  // of 4: not 2
  std::vector<double> p = SampleProbabilities(row, logits);
  EXPECT_NEAR(p[0], 4.0 / 7, 1e-12);
  EXPECT_EQ(p[1], 0);
  EXPECT_NEAR(p[2], 3.0 / 7, 1e-12);
  EXPECT_EQ(p[3], 0);
  const std::vector<int32_t> held_back = {0};
  const std::vector<TokenCount> counts = {{1, 0}, {2, 2}};
  row = SampleRow();
  row.temperature = 1.0f;
  row.held_back = held_back;
  row.counts = counts;
  row.presence_penalty = row.frequency_penalty = 1.0f;
  p = SampleProbabilities(row, logits);  // 0, 1, 3 e^-3, 2
  EXPECT_EQ(p[0], 0);
  EXPECT_NEAR(p[3], 2.0 / (1 + 3 * std::exp(-3.0) + 2), 1e-12);
}

TEST(ReferenceOpsTest, LogSoftmaxOfASmallCaseByHand) {
  EXPECT_NEAR(LogSoftmax({std::log(3), 0})[1], std::log(0.25), 1e-12);
}

TEST(ReferenceOpsTest, RopeAnglesByHand) {
  const std::vector<int64_t> positions = {0, 3};
  const std::vector<float> frequencies = {0.5f};
  const RopeAnglesArgs args{positions, frequencies, 2.0f, {}, {}};
  const Dense cos = RopeAngles(args, /*sines=*/false), sin = RopeAngles(args, /*sines=*/true);
  EXPECT_EQ(cos.at(0, 0), 2.0);
  EXPECT_EQ(sin.at(0, 0), 0.0);
  EXPECT_NEAR(cos.at(1, 0), 0.1414744, 1e-7);  // 2 cos 1.5
  EXPECT_NEAR(sin.at(1, 0), 1.9949900, 1e-7);  // 2 sin 1.5
}

}  // namespace
}  // namespace ccoe::kernels::reference
