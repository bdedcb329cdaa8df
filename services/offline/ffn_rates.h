// The rate of grouped FFN experts against one dense feed-forward block, in the same run.
#ifndef CCOE_SERVICES_OFFLINE_FFN_RATES_H_
#define CCOE_SERVICES_OFFLINE_FFN_RATES_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/ops.h"
#include "runtime/model/ffn.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"

namespace ccoe::services {

// FLOP a second, 6 * hidden * width a row.
struct FfnRates {
  double grouped = 0.0;
  double dense = 0.0;  // one expert's block over all rows
};

// Runs the experts of one MoE layer of a checkpoint over random rows. One thread.
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
  absl::Status RunGrouped(int64_t pairs, kernels::ConstMatrix x, kernels::Matrix out);
  absl::Status RunDense(kernels::ConstMatrix x, kernels::Matrix out);

  const model::FfnSpec ffn_;
  const int64_t hidden_size_;
  std::shared_ptr<const model::Weights> weights_;
  std::vector<model::FfnExpertWeights> experts_;
  std::unique_ptr<kernels::Ops> ops_;
  model::MoeScratch scratch_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_OFFLINE_FFN_RATES_H_
