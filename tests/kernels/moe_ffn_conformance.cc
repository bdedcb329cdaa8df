// SPDX-License-Identifier: Apache-2.0
// Ops::MoeFfn against what it stands for: GroupedFfn and CombineRows of the same ops, bit for bit.
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/moe.h"
#include "runtime/base/check.h"
#include "tests/kernels/ops_conformance.h"
#include "tests/kernels/test_tensors.h"

namespace ccoe::kernels {
namespace {

constexpr DType kFloats[] = {DType::kF32, DType::kF16, DType::kBF16};

struct FfnShape {
  int64_t hidden, intermediate;
};

struct FfnTypes {
  DType gate, up, down;
};

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
