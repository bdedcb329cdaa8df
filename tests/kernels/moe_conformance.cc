// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/moe.h"
#include "runtime/base/check.h"
#include "tests/kernels/ops_conformance.h"
#include "tests/kernels/test_tensors.h"

namespace ccoe::kernels {
namespace {

constexpr DType kFloats[] = {DType::kF32, DType::kF16, DType::kBF16};
constexpr double kEps = std::numeric_limits<float>::epsilon();
constexpr float kMasked = -std::numeric_limits<float>::infinity();
constexpr float kForced = std::numeric_limits<float>::infinity();

// What a TopKGate is asked, on the host.
struct GateCase {
  GateForm form;
  reference::Dense logits;
  reference::Dense bias;  // [1, experts] or empty
  DType bias_dtype = DType::kF32;
  std::vector<int32_t> row_k;
  std::vector<float> steering;  // [n, experts]
  std::vector<int32_t> row_steering;
};

struct GateResult {
  std::vector<int32_t> experts;
  std::vector<float> weights;
};

template <class T>
std::vector<T> Fetch(Ops* ops, const Buffer& buffer) {
  CCOE_CHECK(ops->Synchronize().ok());
  std::vector<T> values(buffer.size_bytes() / sizeof(T));
  CCOE_CHECK(ops->device().CopyToHost(buffer.data(), values.data(), buffer.size_bytes()).ok());
  return values;
}

GateResult RunGate(Ops* ops, const GateCase& c) {
  const int64_t slots = c.logits.rows * c.form.top_k;
  const int64_t experts = c.logits.cols;
  DeviceMatrix logits(ops, c.logits, DType::kF32, /*padding=*/3);
  DeviceMatrix bias(ops, c.bias, c.bias_dtype);
  absl::StatusOr<Buffer> chosen = ops->device().Allocate(slots * sizeof(int32_t));
  absl::StatusOr<Buffer> weights = ops->device().Allocate(slots * sizeof(float));
  CCOE_CHECK(chosen.ok() && weights.ok());
  TopKGateArgs args;
  args.logits = logits.view();
  args.form = c.form;
  if (c.bias.rows > 0) args.selection_bias = bias.view();
  args.row_k = c.row_k;
  args.steering = F32Matrix(c.steering.data(), c.steering.size() / experts, experts);
  args.row_steering = c.row_steering;
  args.experts = static_cast<int32_t*>(chosen->data());
  args.weights = weights->f32();
  ops->TopKGate(args);
  return {Fetch<int32_t>(ops, *chosen), Fetch<float>(ops, *weights)};
}

std::vector<reference::Choice> Expected(const GateCase& c, int64_t row) {
  const int64_t experts = c.logits.cols;
  const auto begin = c.logits.values.begin() + row * experts;
  std::vector<double> steering;
  if (!c.row_steering.empty() && c.row_steering[row] >= 0) {
    const auto from = c.steering.begin() + c.row_steering[row] * experts;
    steering.assign(from, from + experts);
  }
  return reference::Gate(c.form, {begin, begin + experts}, c.bias.values, steering,
                         c.row_k.empty() ? c.form.top_k : c.row_k[row]);
}

// Empty where the result is the reference's, else the first row that is not.
std::string GateDifference(const GateCase& c, const GateResult& result) {
  for (int64_t row = 0; row < c.logits.rows; ++row) {
    std::vector<reference::Choice> expected = Expected(c, row);
    expected.resize(c.form.top_k, {-1, 0.0});
    for (int64_t i = 0; i < c.form.top_k; ++i) {
      const int32_t expert = result.experts[row * c.form.top_k + i];
      const float weight = result.weights[row * c.form.top_k + i];
      // The error of exp and of a sum over all experts.
      const double allowed = expected[i].weight * kEps * (8 + 0.5 * c.logits.cols);
      if (expert == expected[i].expert && std::abs(weight - expected[i].weight) <= allowed)
        continue;
      return absl::StrCat("row ", row, ", place ", i, ": found expert ", expert, " x ", weight,
                          ", expected ", expected[i].expert, " x ", expected[i].weight);
    }
  }
  return "";
}

GateForm Form(RouterScore score, int64_t top_k, bool renormalize) {
  GateForm form;
  form.score = score;
  form.top_k = top_k;
  form.renormalize = renormalize;
  form.scale = renormalize ? 1.0f : 2.5f;
  return form;
}

TEST_P(OpsConformance, GateMatchesTheReferenceForEveryFormAndNumberOfExperts) {
  struct Count {
    int64_t experts, top_k;
  };
  for (RouterScore score : {RouterScore::kSoftmax, RouterScore::kSigmoid}) {
    for (bool renormalize : {false, true}) {
      for (const Count& count : {Count{1, 1}, Count{5, 5}, Count{8, 2}, Count{60, 4}, Count{64, 6},
                                 Count{128, 8}, Count{257, 8}}) {
        for (int64_t rows : {1, 33}) {
          GateCase c;
          c.form = Form(score, count.top_k, renormalize);
          c.logits = RandomDense(rows, count.experts, DType::kF32, 1, 2.0);
          EXPECT_EQ(GateDifference(c, RunGate(ops_.get(), c)), "") << count.experts;
        }
      }
    }
  }
}

TEST_P(OpsConformance, GateKeepsToTheBestGroupsAndCorrectsOnlyTheChoice) {
  for (GroupScore group_score : {GroupScore::kMax, GroupScore::kTopTwoSum}) {
    for (int64_t groups : {1, 8, 64}) {
      for (DType dtype : kFloats) {
        GateCase c;
        c.form = Form(RouterScore::kSigmoid, 6, true);
        c.form.groups = groups;
        c.form.top_groups = std::max<int64_t>(1, groups / 2);
        c.form.group_score = group_score;
        c.logits = RandomDense(20, 64, DType::kF32, 3);
        c.bias = RandomDense(1, 64, dtype, 4, 0.3);
        c.bias_dtype = dtype;
        EXPECT_EQ(GateDifference(c, RunGate(ops_.get(), c)), "") << groups << DTypeName(dtype);
      }
    }
  }
}

TEST_P(OpsConformance, GateGivesTiesToTheLowerExpertAndLowerGroup) {
  GateCase c;
  c.form = Form(RouterScore::kSoftmax, 3, true);
  c.logits = reference::Dense(2, 12);
  c.logits.at(1, 7) = 1.0;
  EXPECT_EQ(RunGate(ops_.get(), c).experts, (std::vector<int32_t>{0, 1, 2, 0, 1, 7}));
  c.form.groups = 4;
  c.form.top_groups = 2;
  EXPECT_EQ(RunGate(ops_.get(), c).experts, (std::vector<int32_t>{0, 1, 2, 0, 1, 7}));
}

TEST_P(OpsConformance, GateIsStableForLogitsFarFromZero) {
  GateCase c;
  c.logits = reference::Dense(2, 4);
  c.logits.values = {1e4, 1e4 - 1, -1e4, 0, -3e4, -3e4, -3e4 - 2, -4e4};
  for (RouterScore score : {RouterScore::kSoftmax, RouterScore::kSigmoid}) {
    c.form = Form(score, 2, false);
    EXPECT_EQ(GateDifference(c, RunGate(ops_.get(), c)), "");
  }
}

TEST_P(OpsConformance, GateOfScoresThatAreAllZeroGivesWeightsOfZero) {
  GateCase c;
  c.form = Form(RouterScore::kSigmoid, 2, true);
  c.logits = reference::Dense(1, 3);
  c.logits.values = {-1e30, -1e30, -1e30};
  const GateResult result = RunGate(ops_.get(), c);
  EXPECT_EQ(result.experts, (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(result.weights, (std::vector<float>{0, 0}));
}

TEST_P(OpsConformance, GateChoosesFewerExpertsForRowsThatAskForFewer) {
  GateCase c;
  c.form = Form(RouterScore::kSoftmax, 4, true);
  c.logits = RandomDense(6, 16, DType::kF32, 5);
  c.row_k = {1, 2, 3, 4, 1, 4};
  const GateResult result = RunGate(ops_.get(), c);
  EXPECT_EQ(GateDifference(c, result), "");
  EXPECT_EQ(result.experts[1], -1);
  EXPECT_EQ(result.weights[1], 0.0f);
}

TEST_P(OpsConformance, GateNeverChoosesMaskedExpertsAndAlwaysForcedOnes) {
  for (int64_t groups : {1, 4}) {
    GateCase c;
    c.form = Form(RouterScore::kSoftmax, 4, false);
    c.form.groups = groups;
    c.form.top_groups = std::max<int64_t>(1, groups / 2);
    c.logits = RandomDense(8, 16, DType::kF32, 6);
    c.steering.assign(3 * 16, 0.0f);
    for (int i = 0; i < 16; i += 2) c.steering[i] = kMasked;
    c.steering[16 + 15] = c.steering[16 + 3] = kForced;
    c.steering[32 + 5] = kForced;
    c.steering[32 + 6] = kMasked;
    c.row_steering = {-1, 0, 1, 2, 0, 1, 2, -1};
    c.row_k = {4, 4, 4, 4, 2, 2, 1, 1};
    const GateResult result = RunGate(ops_.get(), c);
    EXPECT_EQ(GateDifference(c, result), "") << groups;
    EXPECT_EQ(std::vector<int32_t>(result.experts.begin() + 20, result.experts.begin() + 22),
              (std::vector<int32_t>{3, 15}));
    EXPECT_EQ(result.experts[24], 5);
  }
}

TEST_P(OpsDeterminism, GateGivesARowTheSameBitsAloneAndAmongOthers) {
  GateCase all;
  all.form = Form(RouterScore::kSoftmax, 6, true);
  all.logits = RandomDense(200, 160, DType::kF32, 7);
  const GateResult together = RunGate(ops_.get(), all);
  for (int64_t row : {0, 77, 199}) {
    GateCase one = all;
    one.logits = Rows(all.logits, row, 1);
    const GateResult alone = RunGate(ops_.get(), one);
    for (int64_t i = 0; i < 6; ++i) {
      EXPECT_EQ(alone.experts[i], together.experts[row * 6 + i]);
      EXPECT_EQ(std::memcmp(&alone.weights[i], &together.weights[row * 6 + i], sizeof(float)), 0);
    }
  }
}

struct FfnShape {
  int64_t hidden, intermediate;
};

struct FfnTypes {
  DType gate, up, down;
};

// Experts, rows and who goes where, on the host; group g has counts[g] pairs.
class FfnCase {
 public:
  FfnCase(FfnShape shape, FfnTypes types, std::vector<int64_t> counts)
      : shape_(shape), types_(types), counts_(std::move(counts)) {
    for (size_t g = 0; g < counts_.size(); ++g) {
      const uint32_t seed = static_cast<uint32_t>(10 * g);
      gate.push_back(RandomDense(shape.intermediate, shape.hidden, types.gate, seed + 1));
      up.push_back(RandomDense(shape.intermediate, shape.hidden, types.up, seed + 2));
      down.push_back(RandomDense(shape.hidden, shape.intermediate, types.down, seed + 3));
      for (int64_t i = 0; i < counts_[g]; ++i) {
        const int32_t pair = static_cast<int32_t>(x_rows.size());
        x_rows.push_back((pair * 5 + 2) % kRows);
        weights.push_back(0.25f + 0.5f * static_cast<float>(pair % 7));
      }
    }
    // Every second row of `out`, from the last one down.
    const int32_t pairs = static_cast<int32_t>(x_rows.size());
    for (int32_t p = 0; p < pairs; ++p) out_rows.push_back(2 * (pairs - p) - 1);
    x = RandomDense(kRows, shape.hidden, DType::kF32, 9);
  }

  // The pairs [begin, begin + count) alone, which belong to group `group`.
  FfnCase Part(size_t group, int64_t begin, int64_t count) const {
    FfnCase part = *this;
    std::fill(part.counts_.begin(), part.counts_.end(), 0);
    part.counts_[group] = count;
    part.x_rows.assign(x_rows.begin() + begin, x_rows.begin() + begin + count);
    part.weights.assign(weights.begin() + begin, weights.begin() + begin + count);
    part.out_rows.clear();
    for (int32_t p = 0; p < count; ++p) part.out_rows.push_back(2 * (count - p) - 1);
    return part;
  }

  reference::Dense Run(Ops* ops) const {
    const int64_t pairs = static_cast<int64_t>(x_rows.size());
    std::vector<DeviceMatrix> matrices;
    matrices.reserve(3 * counts_.size());
    std::vector<ExpertGroup> groups;
    int64_t begin = 0;
    for (size_t g = 0; g < counts_.size(); ++g) {
      ExpertGroup& group = groups.emplace_back();
      group.gate = matrices.emplace_back(ops, gate[g], types_.gate, /*padding=*/1).view();
      group.up = matrices.emplace_back(ops, up[g], types_.up, /*padding=*/5).view();
      group.down = matrices.emplace_back(ops, down[g], types_.down, /*padding=*/3).view();
      group.pair_begin = begin;
      group.pair_count = counts_[g];
      begin += counts_[g];
    }
    DeviceMatrix dx(ops, x, DType::kF32, /*padding=*/7);
    DeviceMatrix inputs(ops, pairs, shape_.hidden), inner(ops, pairs, shape_.intermediate),
        factor(ops, pairs, shape_.intermediate);
    DeviceMatrix out(ops, 2 * pairs, shape_.hidden, DType::kF32, /*padding=*/2);
    GroupedFfnArgs args;
    args.x = dx.view();
    args.groups = groups;
    args.activation = activation;
    args.x_rows = x_rows;
    args.out_rows = out_rows;
    args.weights = weights;
    args.inputs = inputs.view();
    args.gate = inner.view();
    args.up = factor.view();
    args.out = out.view();
    ops->GroupedFfn(args);
    return out.Download();
  }

  reference::Dense Expected() const {
    reference::Dense out(2 * static_cast<int64_t>(x_rows.size()), shape_.hidden);
    size_t pair = 0;
    for (size_t g = 0; g < counts_.size(); ++g) {
      for (int64_t i = 0; i < counts_[g]; ++i, ++pair) {
        const reference::Dense row =
            reference::GatedFfn(activation, Rows(x, x_rows[pair], 1), gate[g], up[g], down[g]);
        for (int64_t c = 0; c < shape_.hidden; ++c)
          out.at(out_rows[pair], c) = weights[pair] * row.at(0, c);
      }
    }
    return out;
  }

  // Activated values are about sqrt(hidden) squared with errors of a few sqrt(hidden) epsilon, over
  // which down sums; rounding before a product weighs as much.
  reference::Dense Tolerance(double product_eps) const {
    reference::Dense tolerance(1, 1);
    const double inner = static_cast<double>(shape_.hidden);
    tolerance.values[0] =
        (32 * kEps + 4 * product_eps) * inner * std::sqrt(inner * shape_.intermediate);
    return tolerance;
  }

  static constexpr int32_t kRows = 11;
  Activation activation = Activation::kSilu;
  reference::Dense x;
  std::vector<reference::Dense> gate, up, down;
  std::vector<int32_t> x_rows, out_rows;
  std::vector<float> weights;

 private:
  FfnShape shape_;
  FfnTypes types_;
  std::vector<int64_t> counts_;
};

TEST_P(OpsConformance, GroupedFfnMatchesTheReferenceForEveryShapeAndWeightDtype) {
  for (const FfnShape& shape : {FfnShape{7, 5}, FfnShape{64, 96}, FfnShape{33, 70}}) {
    for (DType dtype : kFloats) {
      const FfnCase c(shape, {dtype, dtype, dtype}, {1, 0, 5, 23, 0, 2});
      EXPECT_EQ(
          WorstDifference(c.Run(ops_.get()), c.Expected(), c.Tolerance(GetParam().product_eps)), "")
          << shape.hidden << " x " << shape.intermediate << " " << DTypeName(dtype);
    }
  }
}

TEST_P(OpsConformance, GroupedFfnTakesMatricesOfDifferentDtypesAndAnyActivation) {
  for (Activation activation : {Activation::kSilu, Activation::kGeluTanh, Activation::kGeluErf}) {
    FfnCase c({40, 37}, {DType::kBF16, DType::kF32, DType::kF16}, {3, 8});
    c.activation = activation;
    EXPECT_EQ(WorstDifference(c.Run(ops_.get()), c.Expected(), c.Tolerance(GetParam().product_eps)),
              "");
  }
}

TEST_P(OpsConformance, GroupedFfnOfOneRowOverTwoExperts) {
  FfnCase c({96, 112}, {DType::kBF16, DType::kBF16, DType::kBF16}, {1, 1});
  c.x_rows = {4, 4};
  EXPECT_EQ(WorstDifference(c.Run(ops_.get()), c.Expected(), c.Tolerance(GetParam().product_eps)),
            "");
}

TEST_P(OpsDeterminism, GroupedFfnGivesAPairTheSameBitsAloneAndAmongOthers) {
  for (DType dtype : kFloats) {
    const FfnCase c({70, 150}, {dtype, dtype, dtype}, {4, 31, 1});
    const reference::Dense whole = c.Run(ops_.get());
    struct Piece {
      size_t group;
      int64_t begin, count;
    };
    for (const Piece& piece : {Piece{0, 0, 4}, Piece{0, 2, 1}, Piece{1, 4, 1}, Piece{1, 10, 7},
                               Piece{1, 20, 15}, Piece{2, 35, 1}}) {
      const reference::Dense part = c.Part(piece.group, piece.begin, piece.count).Run(ops_.get());
      for (int64_t i = 0; i < piece.count; ++i) {
        EXPECT_EQ(FirstBitDifference(Rows(part, 2 * (piece.count - i) - 1, 1),
                                     Rows(whole, c.out_rows[piece.begin + i], 1)),
                  "")
            << "pair " << piece.begin + i << " " << DTypeName(dtype);
      }
    }
  }
}

TEST_P(OpsConformance, GroupedFfnWithoutPairsWritesNothing) {
  const FfnCase c({16, 8}, {DType::kF32, DType::kF32, DType::kF32}, {0, 0});
  EXPECT_EQ(c.Run(ops_.get()).values.size(), 0u);
  DeviceMatrix x(ops_.get(), 0, 16), out(ops_.get(), 0, 16);
  GroupedFfnArgs args;
  args.x = x.view();
  args.out = out.view();
  ops_->GroupedFfn(args);
  EXPECT_TRUE(ops_->Synchronize().ok());
}

}  // namespace
}  // namespace ccoe::kernels
