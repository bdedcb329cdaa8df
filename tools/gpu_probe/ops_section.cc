// SPDX-License-Identifier: Apache-2.0
// The ops that are no matrix products: attention, MoE layers, norms, gates, sampling.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "runtime/base/status_macros.h"
#include "tools/gpu_probe/bench_stream.h"
#include "tools/gpu_probe/probe.h"

namespace ccoe::probe {
namespace {

using kernels::DType;
using kernels::Matrix;

struct AttentionCase {
  const char* what;
  int64_t sequences, rows, context;  // rows of each, behind `context` tokens
  int64_t heads, kv_heads, head_dim;
  DType cache;
};

std::vector<AttentionCase> AttentionCases(bool small) {
  if (small) {
    return {{"decode", 2, 1, 40, 2, 1, 64, DType::kBF16},
            {"prefill", 1, 20, 0, 2, 1, 256, DType::kF16},
            {"decode, any head", 1, 1, 40, 2, 1, 48, DType::kF32}};
  }
  return {{"decode", 64, 1, 2048, 32, 8, 128, DType::kBF16},
          {"decode", 1, 1, 8192, 32, 8, 128, DType::kBF16},
          {"decode", 64, 1, 2048, 32, 8, 64, DType::kBF16},
          {"decode", 16, 1, 2048, 16, 8, 256, DType::kBF16},
          {"prefill", 1, 2048, 0, 32, 8, 128, DType::kBF16},
          {"prefill", 1, 2048, 0, 32, 8, 128, DType::kF16},
          {"prefill", 1, 2048, 0, 32, 8, 64, DType::kBF16},
          {"prefill", 1, 2048, 0, 16, 8, 256, DType::kBF16},
          {"decode, any head", 16, 1, 2048, 16, 1, 576, DType::kBF16}};
}

struct MoeSize {
  int64_t hidden, inner, experts;
};

class OpsBench {
 public:
  static absl::StatusOr<std::unique_ptr<OpsBench>> Create(Probe* probe) {
    auto bench = std::make_unique<OpsBench>();
    bench->probe_ = probe;
    CCOE_ASSIGN_OR_RETURN(bench->bench_, BenchStream::Create(probe));
    kernels::CudaOptions options;
    options.math = DType::kBF16;
    CCOE_ASSIGN_OR_RETURN(bench->ops_, probe->MakeOps(options));
    return bench;
  }

  absl::Status Attention(const AttentionCase& c);
  void SayAttention(const AttentionCase& c, double seconds);
  absl::Status Rows();
  absl::Status Experts(int64_t rows);
  absl::Status Sample();

 private:
  absl::StatusOr<std::vector<kernels::ExpertMatrices>> MakeExperts(const MoeSize& size);
  // Two of the columns for each row.
  absl::Status MakeChoice(const Matrix& logits, kernels::TopKGateArgs& args);
  absl::StatusOr<double> SecondsOf(absl::FunctionRef<void()> work) {
    return SecondsOfCall(*probe_, work, [this] { return ops_->Synchronize(); });
  }
  // One op that moves `bytes`.
  absl::Status SayBytes(const std::string& op, int64_t bytes, absl::FunctionRef<void()> work) {
    CCOE_ASSIGN_OR_RETURN(const double seconds, SecondsOf(work));
    probe_->Say({{"op", op},
                 {"us", 1e6 * seconds},
                 {"gb_per_s", 1e-9 * static_cast<double>(bytes) / seconds}});
    return absl::OkStatus();
  }

  Probe* probe_ = nullptr;
  std::unique_ptr<BenchStream> bench_;  // owns what is measured upon
  std::unique_ptr<kernels::Ops> ops_;
};

absl::Status OpsBench::Attention(const AttentionCase& c) {
  constexpr int64_t kPage = 32;
  const int64_t tokens = c.context + c.rows, pages = (tokens + kPage - 1) / kPage;
  const int64_t lines = c.sequences * pages * c.kv_heads * kPage;
  CCOE_ASSIGN_OR_RETURN(const Matrix k, bench_->Random(lines, c.head_dim, c.cache, 1));
  CCOE_ASSIGN_OR_RETURN(const Matrix v, bench_->Random(lines, c.head_dim, c.cache, 2));
  const int64_t rows = c.sequences * c.rows, width = c.heads * c.head_dim;
  CCOE_ASSIGN_OR_RETURN(const Matrix q, bench_->Random(rows, width, DType::kF32, 3));
  CCOE_ASSIGN_OR_RETURN(const Matrix out, bench_->Random(rows, width, DType::kF32, 4));
  std::vector<std::vector<int32_t>> tables(c.sequences);
  std::vector<kernels::SequenceRows> sequences;
  for (int64_t s = 0; s < c.sequences; ++s) {
    for (int64_t p = 0; p < pages; ++p) tables[s].push_back(static_cast<int32_t>(s * pages + p));
    sequences.push_back({s * c.rows, c.rows, c.context, tables[s]});
  }
  kernels::PagedAttentionArgs args;
  args.q = q;
  args.heads = c.heads;
  args.cache = {k.data, v.data, c.cache, c.sequences * pages, kPage, c.kv_heads, c.head_dim};
  args.sequences = sequences;
  args.scale = 0.1f;
  args.out = out;
  CCOE_ASSIGN_OR_RETURN(const double seconds, SecondsOf([&] { ops_->PagedAttention(args); }));
  SayAttention(c, seconds);
  return absl::OkStatus();
}

void OpsBench::SayAttention(const AttentionCase& c, double seconds) {
  const double tokens = static_cast<double>(c.context + c.rows);
  const double sequences = static_cast<double>(c.sequences);
  const double cache_bytes = 2 * sequences * tokens * static_cast<double>(c.kv_heads * c.head_dim) *
                             static_cast<double>(kernels::DTypeBytes(c.cache));
  const double seen = static_cast<double>(c.rows) *
                      (static_cast<double>(c.context) + static_cast<double>(c.rows + 1) / 2);
  const double flops = 4 * sequences * static_cast<double>(c.heads * c.head_dim) * seen;
  probe_->Say({{"op", "attention"},
               {"what", c.what},
               {"sequences", c.sequences},
               {"rows", c.rows},
               {"context", c.context},
               {"heads", c.heads},
               {"kv_heads", c.kv_heads},
               {"head_dim", c.head_dim},
               {"cache", kernels::DTypeName(c.cache)},
               {"us", 1e6 * seconds},
               {"gb_per_s", 1e-9 * cache_bytes / seconds},
               {"tflop_per_s", 1e-12 * flops / seconds}});
}

absl::Status OpsBench::Rows() {
  const int64_t rows = probe_->small() ? 5 : 2048, cols = probe_->small() ? 64 : 4096;
  const int64_t bytes = rows * cols * 4, experts = probe_->small() ? 8 : 64;
  CCOE_ASSIGN_OR_RETURN(const Matrix x, bench_->Random(rows, cols, DType::kF32, 1));
  CCOE_ASSIGN_OR_RETURN(const Matrix y, bench_->Random(rows, cols, DType::kF32, 2));
  CCOE_ASSIGN_OR_RETURN(const Matrix norm, bench_->Random(1, cols, DType::kBF16, 3));
  CCOE_ASSIGN_OR_RETURN(const Matrix gate, bench_->Random(rows, experts, DType::kF32, 4));
  std::vector<int32_t> order(static_cast<size_t>(rows));
  for (int64_t i = 0; i < rows; ++i) order[i] = static_cast<int32_t>(rows - 1 - i);
  kernels::TopKGateArgs args;
  CCOE_RETURN_IF_ERROR(MakeChoice(gate, args));
  CCOE_RETURN_IF_ERROR(SayBytes("rms_norm", 2 * bytes, [&] { ops_->RmsNorm(x, norm, 1e-5f, y); }));
  CCOE_RETURN_IF_ERROR(
      SayBytes("add_rms_norm", 3 * bytes, [&] { ops_->AddRmsNorm(x, norm, 1e-5f, y); }));
  CCOE_RETURN_IF_ERROR(SayBytes("gated_activation", 3 * bytes, [&] {
    ops_->GatedActivation(kernels::Activation::kSilu, x, x, y);
  }));
  CCOE_RETURN_IF_ERROR(SayBytes("gather_rows", 2 * bytes, [&] { ops_->GatherRows(x, order, y); }));
  return SayBytes("top_k_gate", rows * experts * 4, [&] { ops_->TopKGate(args); });
}

absl::StatusOr<std::vector<kernels::ExpertMatrices>> OpsBench::MakeExperts(const MoeSize& size) {
  std::vector<kernels::ExpertMatrices> all;
  for (int64_t e = 0; e < size.experts; ++e) {
    const auto seed = static_cast<uint32_t>(10 * e);
    kernels::ExpertMatrices& one = all.emplace_back();
    CCOE_ASSIGN_OR_RETURN(one.gate, bench_->Random(size.inner, size.hidden, DType::kBF16, seed));
    CCOE_ASSIGN_OR_RETURN(one.up, bench_->Random(size.inner, size.hidden, DType::kBF16, seed + 1));
    CCOE_ASSIGN_OR_RETURN(one.down,
                          bench_->Random(size.hidden, size.inner, DType::kBF16, seed + 2));
  }
  return all;
}

// A MoE layer in the shape of Mixtral's, the choice made on the device.
absl::Status OpsBench::Experts(int64_t rows) {
  const MoeSize size = probe_->small() ? MoeSize{64, 64, 4} : MoeSize{4096, 14336, 8};
  CCOE_ASSIGN_OR_RETURN(const auto all, MakeExperts(size));
  CCOE_ASSIGN_OR_RETURN(const Matrix x, bench_->Random(rows, size.hidden, DType::kF32, 1));
  CCOE_ASSIGN_OR_RETURN(const Matrix gate, bench_->Random(rows, size.experts, DType::kF32, 2));
  CCOE_ASSIGN_OR_RETURN(const Matrix out, bench_->Random(rows, size.hidden, DType::kF32, 3));
  CCOE_ASSIGN_OR_RETURN(const Matrix contributions,
                        bench_->Random(2 * rows, size.hidden, DType::kF32, 4));
  kernels::TopKGateArgs choose;
  CCOE_RETURN_IF_ERROR(MakeChoice(gate, choose));
  ops_->TopKGate(choose);
  kernels::MoeFfnArgs args;
  args.x = x;
  args.experts = all;
  args.chosen = choose.experts;
  args.weights = choose.weights;
  args.top_k = choose.form.top_k;
  args.contributions = contributions;
  args.out = out;
  CCOE_ASSIGN_OR_RETURN(const double seconds, SecondsOf([&] { ops_->MoeFfn(args); }));
  const double expert = 3.0 * static_cast<double>(size.hidden * size.inner);  // parameters
  const double touched = static_cast<double>(std::min(size.experts, 2 * rows));
  probe_->Say({{"op", "moe_ffn"},
               {"rows", rows},
               {"experts", size.experts},
               {"us", 1e6 * seconds},
               {"gb_per_s", 1e-9 * 2 * touched * expert / seconds},  // were all of them chosen
               {"tflop_per_s", 1e-12 * 4 * static_cast<double>(rows) * expert / seconds}});
  return absl::OkStatus();
}

absl::Status OpsBench::MakeChoice(const Matrix& logits, kernels::TopKGateArgs& args) {
  CCOE_ASSIGN_OR_RETURN(void* const chosen, bench_->Allocate(logits.rows * 2 * 4));
  CCOE_ASSIGN_OR_RETURN(void* const weights, bench_->Allocate(logits.rows * 2 * 4));
  args.logits = logits;
  args.form.top_k = 2;
  args.experts = static_cast<int32_t*>(chosen);
  args.weights = static_cast<float*>(weights);
  return absl::OkStatus();
}

absl::Status OpsBench::Sample() {
  const int64_t rows = probe_->small() ? 2 : 64, vocabulary = probe_->small() ? 500 : 128256;
  CCOE_ASSIGN_OR_RETURN(const Matrix logits, bench_->Random(rows, vocabulary, DType::kF32, 1));
  kernels::SampleRow row;
  row.temperature = 0.7f;
  row.top_k = 50;
  row.top_p = 0.95f;
  row.uniform = 0.5;
  const std::vector<kernels::SampleRow> all(static_cast<size_t>(rows), row);
  std::vector<kernels::SampledRow> chosen(static_cast<size_t>(rows));
  kernels::SampleRowsArgs args;
  args.logits = logits;
  args.rows = all;
  absl::Status status;
  CCOE_RETURN_IF_ERROR(SayBytes("sample_rows", rows * vocabulary * 4, [&] {
    status.Update(ops_->SampleRows(args, absl::MakeSpan(chosen)));
  }));
  return status;
}

}  // namespace

absl::Status RunOps(Probe& probe) {
  CCOE_RETURN_IF_ERROR(probe.Device().status());
  for (const AttentionCase& c : AttentionCases(probe.small())) {
    // Each case's memory goes with it.
    CCOE_ASSIGN_OR_RETURN(const auto bench, OpsBench::Create(&probe));
    CCOE_RETURN_IF_ERROR(bench->Attention(c));
    if (probe.left() < absl::Seconds(1)) return absl::OkStatus();
  }
  CCOE_ASSIGN_OR_RETURN(auto bench, OpsBench::Create(&probe));
  CCOE_RETURN_IF_ERROR(bench->Rows());
  CCOE_RETURN_IF_ERROR(bench->Sample());
  for (int64_t rows : {1, 16, probe.small() ? 20 : 2048}) {
    CCOE_ASSIGN_OR_RETURN(bench, OpsBench::Create(&probe));
    CCOE_RETURN_IF_ERROR(bench->Experts(rows));
  }
  return absl::OkStatus();
}

}  // namespace ccoe::probe
