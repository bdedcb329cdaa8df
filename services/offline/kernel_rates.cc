// SPDX-License-Identifier: Apache-2.0
#include "services/offline/kernel_rates.h"

#include <algorithm>
#include <initializer_list>
#include <random>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "runtime/base/status_macros.h"

namespace ccoe::services {
namespace {

using kernels::Buffer;
using kernels::ConstMatrix;
using kernels::DType;
using kernels::F32Matrix;
using kernels::Matrix;

constexpr uint64_t kSeed = 17;
constexpr size_t kBlockValues = size_t{1} << 20;  // of random values that large matrices repeat

// Seconds of `calls` calls, one after the other.
template <class Call>
absl::StatusOr<double> Seconds(kernels::Ops& ops, int calls, Call&& call) {
  CCOE_RETURN_IF_ERROR(ops.Synchronize());
  const absl::Time begin = absl::Now();
  for (int i = 0; i < calls; ++i) call();
  CCOE_RETURN_IF_ERROR(ops.Synchronize());
  return std::max(absl::ToDoubleSeconds(absl::Now() - begin), 1e-9) / calls;
}

absl::Status CheckPositive(std::initializer_list<int64_t> sizes) {
  for (const int64_t size : sizes) {
    if (size < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("load of a kernel: expected sizes of at least 1, found ", size));
    }
  }
  return absl::OkStatus();
}

// Copies `values` over and over until `bytes` of `device` memory are full.
template <class T>
absl::Status FillFrom(const std::vector<T>& values, kernels::Device& device, const Buffer& buffer) {
  const size_t block = values.size() * sizeof(T);
  for (size_t at = 0; at < buffer.size_bytes(); at += block) {
    CCOE_RETURN_IF_ERROR(device.CopyFromHost(values.data(), static_cast<char*>(buffer.data()) + at,
                                             std::min(block, buffer.size_bytes() - at)));
  }
  return absl::OkStatus();
}

// Finite 16-bit floats near one in magnitude, whichever of the two formats they are read as.
std::vector<uint16_t> RandomHalves(DType dtype) {
  std::mt19937_64 random(kSeed);
  const uint16_t exponent = dtype == DType::kBF16 ? 0x3c00 : 0x2400;  // 2^-7, 2^-6
  const uint16_t mantissa = dtype == DType::kBF16 ? 0x007f : 0x03ff;
  std::vector<uint16_t> values(kBlockValues);
  for (uint16_t& value : values) {
    const uint64_t bits = random();
    value = static_cast<uint16_t>(((bits >> 32) & 0x8000) | exponent | (bits & mantissa));
  }
  return values;
}

std::vector<float> RandomFloats(size_t count) {
  std::mt19937_64 random(kSeed);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(random);
  return values;
}

// The weights, rows and scratch of a GroupedFfnLoad.
class FfnBench {
 public:
  FfnBench(kernels::Ops& ops, const GroupedFfnLoad& load)
      : ops_(ops), load_(load), pairs_(load.rows * load.top_k) {}

  absl::Status Init() {
    CCOE_RETURN_IF_ERROR(InitWeights());
    CCOE_RETURN_IF_ERROR(AllocateRows(pairs_, load_.hidden, rows_));
    CCOE_RETURN_IF_ERROR(FillFrom(RandomFloats(kBlockValues), ops_.device(), rows_));
    CCOE_RETURN_IF_ERROR(AllocateRows(pairs_, load_.hidden, inputs_));
    CCOE_RETURN_IF_ERROR(AllocateRows(pairs_, load_.intermediate, gate_));
    CCOE_RETURN_IF_ERROR(AllocateRows(pairs_, load_.intermediate, up_));
    CCOE_RETURN_IF_ERROR(AllocateRows(pairs_, load_.hidden, out_));
    const int64_t of_one = pairs_ / load_.experts;
    for (int64_t e = 0; e < load_.experts; ++e) {
      groups_.push_back({Gate(e), Up(e), Down(e), e * of_one, of_one});
      for (int64_t i = 0; i < of_one; ++i) {
        x_rows_.push_back(static_cast<int32_t>((e * of_one + i) % load_.rows));
        out_rows_.push_back(static_cast<int32_t>(e * of_one + i));
      }
    }
    weights_of_pairs_.assign(static_cast<size_t>(pairs_), 1.0f / static_cast<float>(load_.top_k));
    return absl::OkStatus();
  }

  void RunGrouped() {
    kernels::GroupedFfnArgs args;
    args.x = F32Matrix(rows_.f32(), load_.rows, load_.hidden);
    args.groups = groups_;
    args.x_rows = x_rows_;
    args.out_rows = out_rows_;
    args.weights = weights_of_pairs_;
    args.inputs = F32Matrix(inputs_.f32(), pairs_, load_.hidden);
    args.gate = F32Matrix(gate_.f32(), pairs_, load_.intermediate);
    args.up = F32Matrix(up_.f32(), pairs_, load_.intermediate);
    args.out = F32Matrix(out_.f32(), pairs_, load_.hidden);
    ops_.GroupedFfn(args);
  }

  void RunDense() {
    const Matrix gate = F32Matrix(gate_.f32(), pairs_, load_.intermediate);
    const Matrix up = F32Matrix(up_.f32(), pairs_, load_.intermediate);
    const kernels::LinearPart in[] = {{Gate(0), {}, gate}, {Up(0), {}, up}};
    ops_.Linear(F32Matrix(rows_.f32(), pairs_, load_.hidden), in);
    ops_.GatedActivation(kernels::Activation::kSilu, gate, up, gate);
    const kernels::LinearPart down[] = {{Down(0), {}, F32Matrix(out_.f32(), pairs_, load_.hidden)}};
    ops_.Linear(gate, down);
  }

  double flops() const {
    return 6.0 * static_cast<double>(pairs_) * static_cast<double>(load_.hidden) *
           static_cast<double>(load_.intermediate);
  }

 private:
  absl::Status InitWeights() {
    const size_t bytes =
        static_cast<size_t>(3 * load_.experts * load_.hidden * load_.intermediate) * 2;
    CCOE_ASSIGN_OR_RETURN(weights_, ops_.device().Allocate(bytes));
    return FillFrom(RandomHalves(load_.weights), ops_.device(), weights_);
  }

  absl::Status AllocateRows(int64_t rows, int64_t cols, Buffer& buffer) {
    CCOE_ASSIGN_OR_RETURN(buffer,
                          ops_.device().Allocate(static_cast<size_t>(rows * cols) * sizeof(float)));
    return absl::OkStatus();
  }

  // Matrix `part` of expert `e`: each has three of the same size, one after the other.
  ConstMatrix Part(int64_t e, int64_t part, int64_t rows, int64_t cols) const {
    const int64_t at = (3 * e + part) * load_.hidden * load_.intermediate;
    return {static_cast<const uint16_t*>(weights_.data()) + at, load_.weights, rows, cols, cols};
  }
  ConstMatrix Gate(int64_t e) const { return Part(e, 0, load_.intermediate, load_.hidden); }
  ConstMatrix Up(int64_t e) const { return Part(e, 1, load_.intermediate, load_.hidden); }
  ConstMatrix Down(int64_t e) const { return Part(e, 2, load_.hidden, load_.intermediate); }

  kernels::Ops& ops_;
  const GroupedFfnLoad load_;
  const int64_t pairs_;
  Buffer weights_, rows_, inputs_, gate_, up_, out_;
  std::vector<kernels::ExpertGroup> groups_;
  std::vector<int32_t> x_rows_, out_rows_;
  std::vector<float> weights_of_pairs_;
};

template <typename F>
absl::Status Time(F&& run, double& best_seconds) {
  const absl::Time start = absl::Now();
  CCOE_RETURN_IF_ERROR(run());
  best_seconds = std::min(best_seconds, absl::ToDoubleSeconds(absl::Now() - start));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<double> MeasurePagedAttention(kernels::Ops& ops, const AttentionLoad& load) {
  CCOE_RETURN_IF_ERROR(CheckPositive({load.sequences, load.context, load.heads, load.kv_heads,
                                      load.head_dim, load.page_tokens, load.calls, load.rounds}));
  const int64_t pages_of_one = (load.context + load.page_tokens - 1) / load.page_tokens;
  const int64_t pages = load.sequences * pages_of_one;
  const auto row_bytes = static_cast<size_t>(load.kv_heads * load.head_dim) *
                         static_cast<size_t>(kernels::DTypeBytes(load.kv));
  const size_t cache_bytes = static_cast<size_t>(pages * load.page_tokens) * row_bytes;
  const int64_t width = load.heads * load.head_dim;
  const size_t query_bytes = static_cast<size_t>(load.sequences * width) * sizeof(float);
  CCOE_ASSIGN_OR_RETURN(const Buffer k, ops.device().Allocate(cache_bytes));
  CCOE_ASSIGN_OR_RETURN(const Buffer v, ops.device().Allocate(cache_bytes));
  CCOE_ASSIGN_OR_RETURN(const Buffer q, ops.device().Allocate(query_bytes));
  CCOE_ASSIGN_OR_RETURN(const Buffer out, ops.device().Allocate(query_bytes));

  // Pages of the sequences take turns, as in a cache that filled while all of them decoded.
  std::vector<std::vector<int32_t>> tables(static_cast<size_t>(load.sequences));
  std::vector<kernels::SequenceRows> sequences;
  for (int64_t s = 0; s < load.sequences; ++s) {
    std::vector<int32_t>& table = tables[static_cast<size_t>(s)];
    for (int64_t p = 0; p < pages_of_one; ++p)
      table.push_back(static_cast<int32_t>(p * load.sequences + s));
    sequences.push_back({s, 1, load.context - 1, table});
  }
  kernels::PagedAttentionArgs args;
  args.q = F32Matrix(q.f32(), load.sequences, width);
  args.heads = load.heads;
  args.cache = {k.data(), v.data(), load.kv, pages, load.page_tokens, load.kv_heads, load.head_dim};
  args.sequences = sequences;
  args.out = F32Matrix(out.f32(), load.sequences, width);
  double best = 1e30;
  for (int round = -1; round < load.rounds; ++round) {
    CCOE_ASSIGN_OR_RETURN(const double seconds,
                          Seconds(ops, load.calls, [&] { ops.PagedAttention(args); }));
    if (round >= 0) best = std::min(best, seconds);  // the first one warms up
  }
  return 2.0 * static_cast<double>(load.sequences * load.context) * static_cast<double>(row_bytes) /
         best;
}

absl::StatusOr<FfnRates> MeasureGroupedFfn(kernels::Ops& ops, const GroupedFfnLoad& load) {
  CCOE_RETURN_IF_ERROR(CheckPositive({load.experts, load.top_k, load.rows, load.hidden,
                                      load.intermediate, load.calls, load.rounds}));
  if (load.rows * load.top_k % load.experts != 0 || kernels::DTypeBytes(load.weights) != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("load of grouped FFN experts: expected 16-bit floats and ", load.rows, " * ",
                     load.top_k, " pairs that ", load.experts, " experts divide"));
  }
  FfnBench bench(ops, load);
  CCOE_RETURN_IF_ERROR(bench.Init());
  double grouped = 1e30, dense = 1e30;
  for (int round = -1; round < load.rounds; ++round) {
    CCOE_ASSIGN_OR_RETURN(const double grouped_seconds,
                          Seconds(ops, load.calls, [&] { bench.RunGrouped(); }));
    CCOE_ASSIGN_OR_RETURN(const double dense_seconds,
                          Seconds(ops, load.calls, [&] { bench.RunDense(); }));
    if (round < 0) continue;  // warms up
    grouped = std::min(grouped, grouped_seconds);
    dense = std::min(dense, dense_seconds);
  }
  return FfnRates{bench.flops() / grouped, bench.flops() / dense};
}

FfnRateMeter::FfnRateMeter(const model::FfnSpec& ffn, int64_t hidden_size,
                           std::unique_ptr<kernels::Ops> ops)
    : ffn_(ffn), hidden_size_(hidden_size), ops_(std::move(ops)), scratch_(&ops_->device()) {}

absl::StatusOr<std::unique_ptr<FfnRateMeter>> FfnRateMeter::Create(
    const model::ModelSpec& spec, int32_t layer, std::shared_ptr<const model::Weights> weights,
    std::unique_ptr<kernels::Ops> ops) {
  if (layer < 0 || layer >= spec.layer_count() || !spec.layers[layer].ffn.is_moe()) {
    return absl::InvalidArgumentError(
        absl::StrCat("layer ", layer, ": expected a layer with FFN experts"));
  }
  const model::FfnSpec& ffn = spec.layers[layer].ffn;
  std::unique_ptr<FfnRateMeter> meter(new FfnRateMeter(ffn, spec.hidden_size, std::move(ops)));
  for (int32_t e = 0; e < ffn.moe.experts; ++e) {
    CCOE_ASSIGN_OR_RETURN(const model::FfnExpertWeights expert,
                          model::BindFfnExpert(spec, layer, e, *weights));
    meter->experts_.push_back(expert);
  }
  meter->weights_ = std::move(weights);
  return meter;
}

absl::Status FfnRateMeter::RunGrouped(const model::ExpertPairs& pairs, kernels::Matrix out) {
  CCOE_RETURN_IF_ERROR(model::RunFfnExperts(ffn_, experts_, pairs, *ops_, scratch_, out));
  return ops_->Synchronize();
}

absl::Status FfnRateMeter::RunDense(kernels::ConstMatrix x, kernels::Matrix gate,
                                    kernels::Matrix up, kernels::Matrix out) {
  const model::FfnExpertWeights& expert = experts_.front();
  const kernels::LinearPart in[] = {{expert.gate, {}, gate}, {expert.up, {}, up}};
  ops_->Linear(x, in);
  ops_->GatedActivation(ffn_.activation, gate, up, gate);
  const kernels::LinearPart down[] = {{expert.down, {}, out}};
  ops_->Linear(gate, down);
  return ops_->Synchronize();
}

absl::StatusOr<FfnRates> FfnRateMeter::Measure(int64_t pairs, int rounds) {
  const std::vector<float> input = RandomFloats(static_cast<size_t>(pairs * hidden_size_));
  const int64_t width = ffn_.moe.intermediate;
  const size_t bytes = input.size() * sizeof(float);
  kernels::Device& device = ops_->device();
  CCOE_ASSIGN_OR_RETURN(const Buffer rows, device.Allocate(bytes));
  CCOE_ASSIGN_OR_RETURN(const Buffer output, device.Allocate(bytes));
  // As the grouped form has its scratch: nothing is allocated while time runs.
  CCOE_ASSIGN_OR_RETURN(const Buffer inner, device.Allocate(2 * pairs * width * sizeof(float)));
  CCOE_RETURN_IF_ERROR(device.CopyFromHost(input.data(), rows.data(), bytes));
  const ConstMatrix x = F32Matrix(rows.f32(), pairs, hidden_size_);
  const Matrix out = F32Matrix(output.f32(), pairs, hidden_size_);
  const Matrix gate = F32Matrix(inner.f32(), pairs, width);
  const Matrix up = F32Matrix(inner.f32() + pairs * width, pairs, width);
  std::vector<int32_t> numbers, experts;
  for (int64_t p = 0; p < pairs; ++p) {
    numbers.push_back(static_cast<int32_t>(p));
    experts.push_back(static_cast<int32_t>(p % ffn_.moe.experts));
  }
  const std::vector<float> weights(static_cast<size_t>(pairs), 0.5f);
  const model::ExpertPairs dealt{x, numbers, experts, weights, numbers};
  double grouped = 1e30, dense = 1e30;
  for (int round = -1; round < rounds; ++round) {
    CCOE_RETURN_IF_ERROR(Time([&] { return RunGrouped(dealt, out); }, grouped));
    CCOE_RETURN_IF_ERROR(Time([&] { return RunDense(x, gate, up, out); }, dense));
    if (round < 0) grouped = dense = 1e30;  // the first one pages the weights in
  }
  const double flops = 6.0 * static_cast<double>(pairs * hidden_size_ * width);
  return FfnRates{flops / grouped, flops / dense};
}

}  // namespace ccoe::services
