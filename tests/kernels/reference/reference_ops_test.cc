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

}  // namespace
}  // namespace ccoe::kernels::reference
