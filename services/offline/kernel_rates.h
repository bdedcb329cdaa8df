// SPDX-License-Identifier: Apache-2.0
// Rates of single ops and of a checkpoint's FFN experts at the shapes of serving, on any device:
// what benchmarks hold against the device's own.
#ifndef CCOE_SERVICES_OFFLINE_KERNEL_RATES_H_
#define CCOE_SERVICES_OFFLINE_KERNEL_RATES_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/dtype.h"
#include "kernels/ops.h"
#include "runtime/model/ffn.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"

namespace ccoe::services {

// One decode step's attention in one layer: a row of each sequence over its whole cache.
struct AttentionLoad {
  int64_t sequences = 16;
  int64_t context = 8192;  // tokens in each sequence's cache, the row's own included
  int64_t heads = 32;
  int64_t kv_heads = 8;
  int64_t head_dim = 128;
  int64_t page_tokens = 32;
  kernels::DType kv = kernels::DType::kBF16;
  int calls = 20;  // timed together
  int rounds = 3;  // the fastest counts
};

// Bytes of keys and values read a second. What allocating gave; INVALID_ARGUMENT for sizes below 1.
absl::StatusOr<double> MeasurePagedAttention(kernels::Ops& ops, const AttentionLoad& load);

// FFN experts as DeepSeek-like layers have them: every row goes through top_k experts, dealt
// evenly.
struct GroupedFfnLoad {
  int64_t experts = 64;
  int64_t top_k = 6;
  int64_t rows = 4096;
  int64_t hidden = 2048;
  int64_t intermediate = 1408;
  kernels::DType weights = kernels::DType::kBF16;  // or kF16: random bits of 16-bit floats
  int calls = 5;
  int rounds = 3;
};

// FLOP a second, 6 * hidden * intermediate a (row, expert) pair.
struct FfnRates {
  double grouped = 0.0;
  double dense = 0.0;  // as many rows through one expert's block, by Linear
};

// Both in turn. As MeasurePagedAttention; the experts divide rows * top_k.
absl::StatusOr<FfnRates> MeasureGroupedFfn(kernels::Ops& ops, const GroupedFfnLoad& load);

// The rate of grouped FFN experts against one dense feed-forward block, in the same run: the
// experts of one MoE layer of a checkpoint over random rows. One thread.
class FfnRateMeter {
 public:
  // Binds the experts of `layer`, which must be a MoE layer. `ops` read `weights`.
  static absl::StatusOr<std::unique_ptr<FfnRateMeter>> Create(
      const model::ModelSpec& spec, int32_t layer, std::shared_ptr<const model::Weights> weights,
      std::unique_ptr<kernels::Ops> ops);

  // `pairs` (row, expert) pairs, dealt evenly over the experts, against as many rows of one; both
  // in turn, `rounds` times; the fastest of each counts.
  absl::StatusOr<FfnRates> Measure(int64_t pairs, int rounds);

 private:
  FfnRateMeter(const model::FfnSpec& ffn, int64_t hidden_size, std::unique_ptr<kernels::Ops> ops);
  absl::Status RunGrouped(const model::ExpertPairs& pairs, kernels::Matrix out);
  absl::Status RunDense(kernels::ConstMatrix x, kernels::Matrix gate, kernels::Matrix up,
                        kernels::Matrix out);

  const model::FfnSpec ffn_;
  const int64_t hidden_size_;
  std::shared_ptr<const model::Weights> weights_;
  std::vector<model::FfnExpertWeights> experts_;
  std::unique_ptr<kernels::Ops> ops_;
  model::MoeScratch scratch_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_OFFLINE_KERNEL_RATES_H_
