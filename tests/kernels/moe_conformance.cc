#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
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

// A choice of experts for some rows, on the host.
struct Choice {
  int64_t rows = 0, top_k = 0;
  std::vector<int32_t> experts;  // [rows, top_k], rising, -1 behind the last
  std::vector<float> weights;
};

// Row r chooses what `pick` says, cut to top_k.
Choice ChoiceOf(int64_t rows, int64_t top_k,
                const std::function<std::vector<int32_t>(int64_t row)>& pick) {
  Choice choice;
  choice.rows = rows;
  choice.top_k = top_k;
  for (int64_t row = 0; row < rows; ++row) {
    std::vector<int32_t> experts = pick(row);
    for (size_t slot = 0; slot < experts.size(); ++slot) {
      choice.weights.push_back(0.25f + 0.125f * static_cast<float>((row * 3 + slot) % 9));
    }
    experts.resize(static_cast<size_t>(top_k), -1);
    choice.experts.insert(choice.experts.end(), experts.begin(), experts.end());
    choice.weights.resize(choice.experts.size());
  }
  return choice;
}

// `top_k` of `experts`, spread unevenly: the low ones are chosen by most rows, the last by none.
Choice UnevenChoice(int64_t rows, int64_t top_k, int64_t experts) {
  return ChoiceOf(rows, top_k, [=](int64_t row) {
    std::vector<int32_t> chosen;
    for (int64_t e = 0; e + 1 < experts; ++e) {
      const int64_t left = top_k - static_cast<int64_t>(chosen.size());
      if (left > 0 && ((row * 7 + e * e) % (e + 2) < 2 || experts - 1 - e <= left)) {
        chosen.push_back(static_cast<int32_t>(e));
      }
    }
    return chosen;
  });
}

template <class T>
Buffer Upload(Ops* ops, const std::vector<T>& values) {
  absl::StatusOr<Buffer> buffer = ops->device().Allocate(values.size() * sizeof(T));
  CCOE_CHECK(buffer.ok());
  CCOE_CHECK(
      ops->device().CopyFromHost(values.data(), buffer->data(), values.size() * sizeof(T)).ok());
  return *std::move(buffer);
}

// A layer of experts and rows, run by MoeFfn and by what it stands for.
class MoeCase {
 public:
  MoeCase(Ops* ops, FfnShape shape, FfnTypes types, int64_t experts, int64_t rows)
      : ops_(ops), shape_(shape), x_values_(RandomDense(rows, shape.hidden, DType::kF32, 9)) {
    for (int64_t e = 0; e < experts; ++e) {
      const uint32_t seed = static_cast<uint32_t>(10 * e);
      const auto add = [&](int64_t out, int64_t in, DType dtype, uint32_t s, int64_t padding) {
        matrices_.push_back(
            std::make_unique<DeviceMatrix>(ops, RandomDense(out, in, dtype, s), dtype, padding));
        return matrices_.back()->view();
      };
      ExpertMatrices& expert = experts_.emplace_back();
      expert.gate = add(shape.intermediate, shape.hidden, types.gate, seed + 1, 8);
      expert.up = add(shape.intermediate, shape.hidden, types.up, seed + 2, 0);
      expert.down = add(shape.hidden, shape.intermediate, types.down, seed + 3, 8);
    }
  }

  reference::Dense Run(const Choice& choice) const {
    const int64_t pairs = choice.rows * choice.top_k;
    const DeviceMatrix x(ops_, Rows(x_values_, 0, choice.rows), DType::kF32, /*padding=*/4);
    return RunOn(x, choice, pairs);
  }
  // Row `row` alone.
  reference::Dense RunRow(const Choice& choice, int64_t row) const {
    const DeviceMatrix x(ops_, Rows(x_values_, row, 1), DType::kF32);
    Choice one = choice;
    one.rows = 1;
    const auto begin = row * choice.top_k;
    one.experts.assign(choice.experts.begin() + begin,
                       choice.experts.begin() + begin + choice.top_k);
    one.weights.assign(choice.weights.begin() + begin,
                       choice.weights.begin() + begin + choice.top_k);
    return RunOn(x, one, choice.top_k);
  }
  // GroupedFfn over the pairs in order of expert, then CombineRows.
  reference::Dense Expected(const Choice& choice) const;

 private:
  reference::Dense RunOn(const DeviceMatrix& x, const Choice& choice, int64_t pairs) const {
    const Buffer chosen = Upload(ops_, choice.experts), weights = Upload(ops_, choice.weights);
    DeviceMatrix contributions(ops_, pairs, shape_.hidden), inputs(ops_, pairs, shape_.hidden);
    DeviceMatrix gate(ops_, pairs, shape_.intermediate), up(ops_, pairs, shape_.intermediate);
    DeviceMatrix out(ops_, choice.rows, shape_.hidden, DType::kF32, /*padding=*/2);
    MoeFfnArgs args;
    args.x = x.view();
    args.experts = experts_;
    args.chosen = static_cast<const int32_t*>(chosen.data());
    args.weights = weights.f32();
    args.top_k = choice.top_k;
    args.contributions = contributions.view();
    args.inputs = inputs.view();
    args.gate = gate.view();
    args.up = up.view();
    args.out = out.view();
    ops_->MoeFfn(args);
    return out.Download();
  }

  Ops* const ops_;
  const FfnShape shape_;
  const reference::Dense x_values_;
  std::vector<std::unique_ptr<DeviceMatrix>> matrices_;
  std::vector<ExpertMatrices> experts_;
};

reference::Dense MoeCase::Expected(const Choice& choice) const {
  std::vector<ExpertGroup> groups;
  std::vector<int32_t> x_rows, out_rows, offsets = {0};
  std::vector<float> weights;
  std::vector<int32_t> place(choice.experts.size());
  for (int64_t row = 0, pairs = 0; row < choice.rows; ++row) {
    for (int64_t slot = row * choice.top_k; slot < (row + 1) * choice.top_k; ++slot) {
      if (choice.experts[slot] >= 0) place[slot] = static_cast<int32_t>(pairs++);
    }
    offsets.push_back(static_cast<int32_t>(pairs));
  }
  for (size_t e = 0; e < experts_.size(); ++e) {
    const auto begin = static_cast<int64_t>(x_rows.size());
    for (size_t slot = 0; slot < choice.experts.size(); ++slot) {
      if (choice.experts[slot] != static_cast<int32_t>(e)) continue;
      x_rows.push_back(static_cast<int32_t>(slot / choice.top_k));
      out_rows.push_back(place[slot]);
      weights.push_back(choice.weights[slot]);
    }
    groups.push_back({experts_[e].gate, experts_[e].up, experts_[e].down, begin,
                      static_cast<int64_t>(x_rows.size()) - begin});
  }
  const auto pairs = static_cast<int64_t>(x_rows.size());
  const DeviceMatrix x(ops_, Rows(x_values_, 0, choice.rows), DType::kF32, /*padding=*/4);
  DeviceMatrix contributions(ops_, pairs, shape_.hidden), inputs(ops_, pairs, shape_.hidden);
  DeviceMatrix gate(ops_, pairs, shape_.intermediate), up(ops_, pairs, shape_.intermediate);
  DeviceMatrix out(ops_, choice.rows, shape_.hidden);
  ops_->GroupedFfn({x.view(), groups, Activation::kSilu, x_rows, out_rows, weights, inputs.view(),
                    gate.view(), up.view(), contributions.view()});
  ops_->CombineRows({contributions.view(), offsets, out.view()});
  return out.Download();
}

TEST_P(OpsConformance, MoeFfnGivesTheBitsOfGroupedFfnAndCombineRows) {
  for (DType dtype : kFloats) {
    for (const FfnShape& shape : {FfnShape{64, 96}, FfnShape{33, 70}}) {
      const MoeCase c(ops_.get(), shape, {dtype, dtype, dtype}, /*experts=*/6, /*rows=*/90);
      for (int64_t rows : {1, 7, 16, 17, 90}) {
        const Choice choice = UnevenChoice(rows, 3, 6);
        EXPECT_EQ(FirstBitDifference(c.Run(choice), c.Expected(choice)), "")
            << rows << " rows, " << shape.hidden << " " << DTypeName(dtype);
      }
    }
  }
}

TEST_P(OpsConformance, MoeFfnOfExtremeChoices) {
  const MoeCase c(ops_.get(), {48, 40}, {DType::kBF16, DType::kF32, DType::kF16}, 5, 70);
  const auto all = [](int64_t) { return std::vector<int32_t>{0, 1, 2, 3, 4}; };
  const auto one = [](int64_t) { return std::vector<int32_t>{3}; };
  const auto each_another = [](int64_t row) {
    return std::vector<int32_t>{static_cast<int32_t>(row % 5)};
  };
  // Rows that choose fewer than the others, the first and the last among them.
  const auto fewer = [](int64_t row) {
    std::vector<int32_t> chosen;
    for (int32_t e = 0; e < 1 + row % 4; ++e) chosen.push_back(e + (row % 2 == 0 ? 1 : 0));
    return chosen;
  };
  for (const Choice& choice : {ChoiceOf(70, 5, all), ChoiceOf(3, 5, all), ChoiceOf(70, 1, one),
                               ChoiceOf(5, 1, each_another), ChoiceOf(66, 4, fewer),
                               ChoiceOf(9, 4, fewer), ChoiceOf(1, 4, one)}) {
    EXPECT_EQ(FirstBitDifference(c.Run(choice), c.Expected(choice)), "")
        << choice.rows << " rows, " << choice.top_k << " slots";
  }
}

TEST_P(OpsConformance, MoeFfnOfManyExpertsAndFewRows) {
  const MoeCase c(ops_.get(), {16, 24}, {DType::kBF16, DType::kBF16, DType::kBF16}, 300, 4);
  const auto spread = [](int64_t row) {
    return std::vector<int32_t>{static_cast<int32_t>(row), 100 + static_cast<int32_t>(row % 2), 257,
                                299};
  };
  const Choice choice = ChoiceOf(4, 4, spread);
  EXPECT_EQ(FirstBitDifference(c.Run(choice), c.Expected(choice)), "");
}

TEST_P(OpsConformance, MoeFfnAgainAndAgainWithOtherChoicesAndLayers) {
  const FfnTypes types = {DType::kBF16, DType::kBF16, DType::kBF16};
  const MoeCase a(ops_.get(), {64, 64}, types, 4, 20), b(ops_.get(), {64, 64}, types, 7, 20);
  for (int64_t rows : {3, 20, 1, 3}) {
    const Choice of_a = UnevenChoice(rows, 2, 4), of_b = UnevenChoice(rows, 4, 7);
    EXPECT_EQ(FirstBitDifference(a.Run(of_a), a.Expected(of_a)), "") << rows;
    EXPECT_EQ(FirstBitDifference(b.Run(of_b), b.Expected(of_b)), "") << rows;
  }
}

TEST_P(OpsDeterminism, MoeFfnGivesARowTheSameBitsAloneAndAmongOthers) {
  for (DType dtype : kFloats) {
    const MoeCase c(ops_.get(), {72, 136}, {dtype, dtype, dtype}, 8, 150);
    const Choice choice = UnevenChoice(150, 4, 8);
    const reference::Dense together = c.Run(choice);
    for (int64_t row : {0, 71, 149}) {
      EXPECT_EQ(FirstBitDifference(c.RunRow(choice, row), Rows(together, row, 1)), "")
          << "row " << row << " " << DTypeName(dtype);
    }
  }
}

TEST_P(OpsConformance, MoeFfnWithoutRowsWritesNothing) {
  const MoeCase c(ops_.get(), {16, 8}, {DType::kF32, DType::kF32, DType::kF32}, 2, 1);
  EXPECT_EQ(c.Run(ChoiceOf(0, 2, nullptr)).values.size(), 0u);
}

}  // namespace
}  // namespace ccoe::kernels
