// SPDX-License-Identifier: Apache-2.0
// Linear over the weights of a Llama of 0.25 B parameters (hidden 1024, intermediate 2816), several
// layers of them so that they do not stay in the caches. Counters: GFLOP/s and the ratio to
// OpenBLAS's sgemm; GB/s of weights and the ratio to a loop that only reads.
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

constexpr int64_t kHidden = 1024, kIntermediate = 2816, kKv = 256;
constexpr int64_t kLayers = 8;

// A layer's weights lie one behind the other, as in a file.
struct Layer {
  ConstMatrix q, k, v, o, gate, up, down;
};

class Weights {
 public:
  explicit Weights(DType dtype)
      : dtype_(dtype), bits_(kLayers * kLayerElements * (DTypeBytes(dtype) / 2)) {
    std::mt19937 random(1);
    // bf16 bit patterns of numbers in (-2, 2); as the high half of an f32 they are just as tame.
    for (uint16_t& bits : bits_) bits = static_cast<uint16_t>((random() & 0x807f) | 0x3f00);
  }

  Layer At(int64_t layer) {
    next_ = layer * kLayerElements;
    Layer l;
    for (ConstMatrix* m : {&l.q, &l.o}) *m = Take(kHidden, kHidden);
    for (ConstMatrix* m : {&l.k, &l.v}) *m = Take(kKv, kHidden);
    for (ConstMatrix* m : {&l.gate, &l.up}) *m = Take(kIntermediate, kHidden);
    l.down = Take(kHidden, kIntermediate);
    return l;
  }

  double bytes() const { return 2.0 * bits_.size(); }
  static constexpr double kFlopsPerRow =
      2.0 * kLayers * (2 * kHidden * kHidden + 2 * kKv * kHidden + 3 * kIntermediate * kHidden);

 private:
  static constexpr int64_t kLayerElements =
      2 * kHidden * kHidden + 2 * kKv * kHidden + 3 * kIntermediate * kHidden;

  ConstMatrix Take(int64_t rows, int64_t cols) {
    const char* data = reinterpret_cast<const char*>(bits_.data()) + next_ * DTypeBytes(dtype_);
    next_ += rows * cols;
    return {data, dtype_, rows, cols, cols};
  }

  DType dtype_;
  std::vector<uint16_t> bits_;
  int64_t next_ = 0;
};

// Rows in and out of a layer's linears, of fixed values: only the work matters.
struct Rows {
  explicit Rows(int64_t rows)
      : rows_(rows),
        x(rows * kIntermediate, 0.5f),
        wide(2 * rows * kIntermediate),
        kv(2 * rows * kKv) {}

  ConstMatrix In(int64_t cols) const { return F32Matrix(x.data(), rows_, cols); }
  Matrix Wide(int64_t i, int64_t cols) {
    return F32Matrix(wide.data() + i * rows_ * kIntermediate, rows_, cols);
  }
  Matrix Kv(int64_t i) { return F32Matrix(kv.data() + i * rows_ * kKv, rows_, kKv); }

  int64_t rows_;
  std::vector<float> x, wide, kv;
};

void RunLayer(Ops* ops, const Layer& l, Rows* rows) {
  const LinearPart qkv[] = {{l.q, {}, rows->Wide(0, kHidden), false},
                            {l.k, {}, rows->Kv(0), false},
                            {l.v, {}, rows->Kv(1), false}};
  ops->Linear(rows->In(kHidden), qkv);
  const LinearPart o{l.o, {}, rows->Wide(0, kHidden), false};
  ops->Linear(rows->In(kHidden), {&o, 1});
  const LinearPart gate_up[] = {{l.gate, {}, rows->Wide(0, kIntermediate), false},
                                {l.up, {}, rows->Wide(1, kIntermediate), false}};
  ops->Linear(rows->In(kHidden), gate_up);
  const LinearPart down{l.down, {}, rows->Wide(0, kHidden), false};
  ops->Linear(rows->In(kIntermediate), {&down, 1});
}

void BM_LayerLinears(benchmark::State& state) {
  const int64_t rows = state.range(0);
  const DType dtype = static_cast<DType>(state.range(2));
  ThreadTeam team(static_cast<int>(state.range(1)));
  std::unique_ptr<Ops> ops = MakeCpuOps(&team);
  Weights weights(dtype);
  Rows buffers(rows);
  for (auto _ : state) {
    for (int64_t layer = 0; layer < kLayers; ++layer)
      RunLayer(ops.get(), weights.At(layer), &buffers);
  }
  const double runs = static_cast<double>(state.iterations());
  const double sgemm = MeasureSgemm(team.size()).value_or(0.0);  // 0 without OpenBLAS: no ratio
  const double read = MeasureReadBandwidth(&team);
  using benchmark::Counter;
  state.counters["gflops"] = Counter(1e-9 * Weights::kFlopsPerRow * rows * runs, Counter::kIsRate);
  state.counters["of_sgemm"] =
      Counter(Weights::kFlopsPerRow * rows * runs / sgemm, Counter::kIsRate);
  state.counters["gb_s"] = Counter(1e-9 * weights.bytes() * runs, Counter::kIsRate);
  state.counters["of_read"] = Counter(weights.bytes() * runs / read, Counter::kIsRate);
}

// Rows, threads, dtype.
BENCHMARK(BM_LayerLinears)
    ->ArgNames({"rows", "threads", "dtype"})
    ->ArgsProduct({{1, 4, 8, 16, 32, 64, 512}, {1, 2}, {static_cast<int64_t>(DType::kBF16)}})
    ->Args({1, 2, static_cast<int64_t>(DType::kF32)})
    ->Args({16, 2, static_cast<int64_t>(DType::kF32)})
    ->Args({512, 2, static_cast<int64_t>(DType::kF32)})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime()
    ->MinTime(0.2);

}  // namespace
}  // namespace ccoe::kernels

BENCHMARK_MAIN();
