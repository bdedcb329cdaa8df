// SPDX-License-Identifier: Apache-2.0
// GroupedFfn against the ops of one dense feed-forward block over as many rows as there are
// (row, expert) pairs, by turns in the same run; the quickest run of each counts, since other work
// on the machine only ever slows one down. Counters: GFLOP/s of both and their ratio; GB/s of the
// chosen experts' weights over all runs, and the ratio to a loop that only reads.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "benchmark/benchmark.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/roofline.h"
#include "runtime/base/parallel.h"

namespace ccoe::kernels {
namespace {

constexpr int64_t kHidden = 1024;

struct Shape {
  int64_t rows, experts, top_k, intermediate;
  int64_t pairs() const { return rows * top_k; }
  double flops() const { return 2.0 * 3 * pairs() * kHidden * intermediate; }
  double expert_bytes() const { return 2.0 * 3 * kHidden * intermediate; }
};

// A layer of experts in bf16, and rows that each go to `top_k` of them.
class Layer {
 public:
  explicit Layer(const Shape& shape)
      : shape_(shape),
        weights_(shape.experts * 3 * kHidden * shape.intermediate),
        x_(shape.pairs() * kHidden, 0.5f),
        out_(shape.pairs() * kHidden),
        gate_(shape.pairs() * shape.intermediate),
        up_(gate_.size()),
        pair_weights_(shape.pairs(), 0.5f) {
    // bf16 bit patterns of numbers in (-2, 2).
    for (uint16_t& bits : weights_) bits = static_cast<uint16_t>((random_() & 0x807f) | 0x3f00);
    for (int64_t p = 0; p < shape.pairs(); ++p) out_rows_.push_back(static_cast<int32_t>(p));
    Route();
  }

  // Other experts for the rows.
  void Route() {
    std::vector<int32_t> order(shape_.experts);
    std::vector<std::vector<int32_t>> rows_of(shape_.experts);
    for (size_t e = 0; e < order.size(); ++e) order[e] = static_cast<int32_t>(e);
    for (int64_t row = 0; row < shape_.rows; ++row) {
      std::shuffle(order.begin(), order.end(), random_);
      for (int64_t i = 0; i < shape_.top_k; ++i)
        rows_of[order[i]].push_back(static_cast<int32_t>(row));
    }
    groups_.clear();
    x_rows_.clear();
    for (int64_t e = 0; e < shape_.experts; ++e) {
      if (rows_of[e].empty()) continue;
      ExpertGroup group = Expert(e);
      group.pair_begin = static_cast<int64_t>(x_rows_.size());
      group.pair_count = static_cast<int64_t>(rows_of[e].size());
      groups_.push_back(group);
      x_rows_.insert(x_rows_.end(), rows_of[e].begin(), rows_of[e].end());
    }
  }

  void RunGrouped(Ops* ops) {
    GroupedFfnArgs args;
    args.x = F32Matrix(x_.data(), shape_.rows, kHidden);
    args.groups = groups_;
    args.x_rows = x_rows_;
    args.out_rows = out_rows_;
    args.weights = pair_weights_;
    args.inputs = F32Matrix(x_.data(), shape_.pairs(), kHidden);
    args.gate = F32Matrix(gate_.data(), shape_.pairs(), shape_.intermediate);
    args.up = F32Matrix(up_.data(), shape_.pairs(), shape_.intermediate);
    args.out = F32Matrix(out_.data(), shape_.pairs(), kHidden);
    ops->GroupedFfn(args);
  }

  // Each time over another expert's weights, so that they do not stay in the caches.
  void RunDense(Ops* ops) {
    const ExpertGroup expert = Expert(next_dense_++ % shape_.experts);
    const Matrix gate = F32Matrix(gate_.data(), shape_.pairs(), shape_.intermediate);
    const Matrix up = F32Matrix(up_.data(), shape_.pairs(), shape_.intermediate);
    const LinearPart parts[] = {{expert.gate, {}, gate, false}, {expert.up, {}, up, false}};
    ops->Linear(F32Matrix(x_.data(), shape_.pairs(), kHidden), parts);
    ops->GatedActivation(Activation::kSilu, gate, up, gate);
    const LinearPart down{expert.down, {}, F32Matrix(out_.data(), shape_.pairs(), kHidden), false};
    ops->Linear(gate, {&down, 1});
  }

  double chosen_bytes() const { return shape_.expert_bytes() * groups_.size(); }

 private:
  ExpertGroup Expert(int64_t expert) const {
    const int64_t elements = kHidden * shape_.intermediate;
    const uint16_t* at = weights_.data() + 3 * expert * elements;
    ExpertGroup group;
    group.gate = {at, DType::kBF16, shape_.intermediate, kHidden, kHidden};
    group.up = {at + elements, DType::kBF16, shape_.intermediate, kHidden, kHidden};
    group.down = {at + 2 * elements, DType::kBF16, kHidden, shape_.intermediate,
                  shape_.intermediate};
    return group;
  }

  const Shape shape_;
  std::mt19937 random_{1};
  std::vector<uint16_t> weights_;
  std::vector<float> x_, out_, gate_, up_, pair_weights_;
  std::vector<int32_t> x_rows_, out_rows_;
  std::vector<ExpertGroup> groups_;
  int64_t next_dense_ = 0;
};

template <class Body>
double Seconds(const Body& body) {
  const auto begin = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void BM_GroupedFfn(benchmark::State& state) {
  const Shape shape{state.range(0), state.range(1), state.range(2), state.range(3)};
  ThreadTeam team(static_cast<int>(state.range(4)));
  std::unique_ptr<Ops> ops = MakeCpuOps(&team);
  Layer layer(shape);
  double grouped = 1e30, dense = 1e30, bytes = 0, total = 0;
  for (auto _ : state) {
    layer.Route();
    const double seconds = Seconds([&] { layer.RunGrouped(ops.get()); });
    dense = std::min(dense, Seconds([&] { layer.RunDense(ops.get()); }));
    grouped = std::min(grouped, seconds);
    bytes += layer.chosen_bytes();
    total += seconds;
    state.SetIterationTime(seconds);
  }
  const double read = MeasureReadBandwidth(&team);
  state.counters["grouped_gflops"] = 1e-9 * shape.flops() / grouped;
  state.counters["dense_gflops"] = 1e-9 * shape.flops() / dense;
  state.counters["of_dense"] = dense / grouped;
  state.counters["gb_s"] = 1e-9 * bytes / total;
  state.counters["of_read"] = bytes / total / read;
}

// Where rows are few, the dense block reads one expert and the grouped one several: of_read tells.
BENCHMARK(BM_GroupedFfn)
    ->ArgNames({"rows", "experts", "top_k", "intermediate", "threads"})
    ->Args({512, 8, 2, 1792, 2})
    ->Args({512, 8, 2, 1792, 1})
    ->Args({512, 64, 6, 352, 2})
    ->Args({32, 8, 2, 1792, 2})
    ->Args({32, 64, 6, 352, 2})
    ->Args({1, 8, 2, 1792, 2})
    ->Args({1, 64, 6, 352, 2})
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime()
    ->MinTime(0.5);

}  // namespace
}  // namespace ccoe::kernels

BENCHMARK_MAIN();
