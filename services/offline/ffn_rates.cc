#include "services/offline/ffn_rates.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "runtime/base/status_macros.h"

namespace ccoe::services {
namespace {

constexpr uint64_t kSeed = 11;

std::vector<float> RandomRows(int64_t values) {
  std::mt19937_64 random(kSeed);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<float> rows(static_cast<size_t>(values));
  for (float& value : rows) value = uniform(random);
  return rows;
}

template <typename F>
absl::Status Time(F&& run, double& best_seconds) {
  const absl::Time start = absl::Now();
  CCOE_RETURN_IF_ERROR(run());
  best_seconds = std::min(best_seconds, absl::ToDoubleSeconds(absl::Now() - start));
  return absl::OkStatus();
}

}  // namespace

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

absl::Status FfnRateMeter::RunGrouped(int64_t pairs, kernels::ConstMatrix x, kernels::Matrix out) {
  std::vector<int32_t> rows, experts;
  for (int64_t p = 0; p < pairs; ++p) {
    rows.push_back(static_cast<int32_t>(p));
    experts.push_back(static_cast<int32_t>(p % ffn_.moe.experts));
  }
  const std::vector<float> weights(static_cast<size_t>(pairs), 0.5f);
  CCOE_RETURN_IF_ERROR(model::RunFfnExperts(ffn_, experts_, {rows, experts, weights, rows}, x,
                                            *ops_, scratch_, out));
  return ops_->Synchronize();
}

absl::Status FfnRateMeter::RunDense(kernels::ConstMatrix x, kernels::Matrix out) {
  CCOE_ASSIGN_OR_RETURN(
      const kernels::Buffer buffer,
      ops_->device().Allocate(2 * x.rows * ffn_.moe.intermediate * sizeof(float)));
  const kernels::Matrix gate = kernels::F32Matrix(buffer.f32(), x.rows, ffn_.moe.intermediate);
  const kernels::Matrix up = kernels::F32Matrix(buffer.f32() + x.rows * ffn_.moe.intermediate,
                                                x.rows, ffn_.moe.intermediate);
  const model::FfnExpertWeights& expert = experts_.front();
  const kernels::LinearPart in[] = {{expert.gate, {}, gate}, {expert.up, {}, up}};
  ops_->Linear(x, in);
  ops_->GatedActivation(ffn_.activation, gate, up, gate);
  const kernels::LinearPart down[] = {{expert.down, {}, out}};
  ops_->Linear(gate, down);
  return ops_->Synchronize();
}

absl::StatusOr<FfnRates> FfnRateMeter::Measure(int64_t pairs, int rounds) {
  const std::vector<float> input = RandomRows(pairs * hidden_size_);
  const size_t bytes = input.size() * sizeof(float);
  kernels::Device& device = ops_->device();
  CCOE_ASSIGN_OR_RETURN(const kernels::Buffer rows, device.Allocate(bytes));
  CCOE_ASSIGN_OR_RETURN(const kernels::Buffer output, device.Allocate(bytes));
  CCOE_RETURN_IF_ERROR(device.CopyFromHost(input.data(), rows.data(), bytes));
  const kernels::ConstMatrix x = kernels::F32Matrix(rows.f32(), pairs, hidden_size_);
  const kernels::Matrix out = kernels::F32Matrix(output.f32(), pairs, hidden_size_);
  double grouped = 1e30, dense = 1e30;
  for (int round = -1; round < rounds; ++round) {
    CCOE_RETURN_IF_ERROR(Time([&] { return RunGrouped(pairs, x, out); }, grouped));
    CCOE_RETURN_IF_ERROR(Time([&] { return RunDense(x, out); }, dense));
    if (round < 0) grouped = dense = 1e30;  // the first one pages the weights in
  }
  const double flops = 6.0 * static_cast<double>(pairs * hidden_size_ * ffn_.moe.intermediate);
  return FfnRates{flops / grouped, flops / dense};
}

}  // namespace ccoe::services
