#include "services/cli/bench_gpu.h"

#include <algorithm>
#include <iostream>
#include <memory>
#include <vector>

#include "absl/strings/str_format.h"
#include "kernels/cuda/roofline/roofline.h"
#include "nlohmann/json.hpp"
#include "runtime/base/parallel.h"
#include "runtime/base/status_macros.h"
#include "services/cli/bench_samples.h"
#include "services/cli/progress.h"
#include "services/common/compute.h"
#include "services/offline/kernel_rates.h"
#include "services/offline/offline_engine.h"
#include "services/offline/throughput.h"

namespace ccoe::cli {
namespace {

constexpr int64_t kPromptTokens = 16;
constexpr int64_t kPrefillTokens = 2048;
constexpr int64_t kLargestBatch = 64;

// One value a round. The GPU's own rates and the model's take turns, so that a clock that changes
// changes for both.
struct Samples {
  std::vector<double> bandwidth;                                // bytes a second
  std::vector<double> gemm;                                     // FLOP a second
  std::vector<double> decode_1, decode_16, decode_64, prefill;  // tokens a second
};

absl::Status Round(services::OfflineEngine& offline, int device, int64_t new_tokens,
                   Samples& samples) {
  CCOE_ASSIGN_OR_RETURN(const double bandwidth, kernels::MeasureCudaReadBandwidth(device));
  samples.bandwidth.push_back(bandwidth);
  struct Batch {
    int64_t queries;
    std::vector<double>& rates;
  };
  for (const Batch& batch : {Batch{1, samples.decode_1}, Batch{16, samples.decode_16},
                             Batch{kLargestBatch, samples.decode_64}}) {
    CCOE_ASSIGN_OR_RETURN(const auto rate,
                          MeasureBase(offline, batch.queries, kPromptTokens, new_tokens));
    batch.rates.push_back(rate.decode_tokens_per_second);
  }
  CCOE_ASSIGN_OR_RETURN(const double gemm, kernels::MeasureCudaGemm(device));
  samples.gemm.push_back(gemm);
  CCOE_ASSIGN_OR_RETURN(const auto prefill, MeasureBase(offline, 1, kPrefillTokens, 2));
  samples.prefill.push_back(prefill.prefill_tokens_per_second);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<services::OfflineEngine>> Engine(const BenchGpuOptions& options) {
  services::OfflineOptions offline;
  offline.model_folder = options.folder;
  offline.threads = options.model.threads;
  offline.compute = ToComputeOptions(options.model.compute);
  offline.engine.max_step_tokens = kPrefillTokens;
  offline.engine.max_prefill_chunk = kPrefillTokens;
  offline.engine.kv_tokens =
      std::max(2 * kPrefillTokens, 2 * kLargestBatch * (kPromptTokens + options.new_tokens));
  return services::OfflineEngine::Create(offline);
}

absl::StatusOr<nlohmann::json> Results(const Samples& samples, const services::Compute& compute,
                                       const model::ModelSpec& spec) {
  const auto weight_bytes = static_cast<int64_t>(kernels::DTypeBytes(compute.kv_dtype()));
  const double bandwidth = Median(samples.bandwidth), gemm = Median(samples.gemm);
  const double one = Median(samples.decode_1), prefill = Median(samples.prefill);
  nlohmann::json json = {
      {"device", compute.device().Name()},
      {"math", kernels::DTypeName(compute.kv_dtype())},
      {"parameters", services::ParametersTotal(spec)},
      {"read_bandwidth_bytes_per_second", bandwidth},
      {"gemm_flops_per_second", gemm},
      {"decode_1_tokens_per_second", one},
      {"decode_16_tokens_per_second", Median(samples.decode_16)},
      {"decode_64_tokens_per_second", Median(samples.decode_64)},
      {"prefill_2048_tokens_per_second", prefill},
      {"decode_1_of_bandwidth",
       one * static_cast<double>(services::DecodeBytes(spec, weight_bytes)) / bandwidth},
      {"decode_16_of_decode_1", Median(samples.decode_16) / one},
      {"decode_64_of_decode_1", Median(samples.decode_64) / one},
      {"prefill_2048_of_gemm",
       prefill * services::PrefillFlops(spec, kPrefillTokens) / kPrefillTokens / gemm}};
  CCOE_ASSIGN_OR_RETURN(const auto ops, compute.MakeOps());
  services::AttentionLoad attention;
  attention.kv = compute.kv_dtype();
  CCOE_ASSIGN_OR_RETURN(const double attended, services::MeasurePagedAttention(*ops, attention));
  json["paged_attention_8k_bytes_per_second"] = attended;
  json["paged_attention_8k_of_bandwidth"] = attended / bandwidth;
  CCOE_ASSIGN_OR_RETURN(const auto ffn, services::MeasureGroupedFfn(*ops, {}));
  json["grouped_ffn_flops_per_second"] = ffn.grouped;
  json["grouped_ffn_of_dense"] = ffn.grouped / ffn.dense;
  return json;
}

void PrintTable(const nlohmann::json& r) {
  const auto value = [&r](const char* key) { return r[key].get<double>(); };
  std::cout << absl::StrFormat(
      "%s, %s, %.3f B parameters; reads %.0f GB/s, bf16 products %.0f TFLOP/s, in this run\n\n",
      r["device"].get<std::string>(), r["math"].get<std::string>(), value("parameters") / 1e9,
      value("read_bandwidth_bytes_per_second") / 1e9, value("gemm_flops_per_second") / 1e12);
  std::cout << "              tokens/s  against\n";
  std::cout << absl::StrFormat("decode b1    %9.1f  %.0f %% of the read bandwidth\n",
                               value("decode_1_tokens_per_second"),
                               100 * value("decode_1_of_bandwidth"));
  std::cout << absl::StrFormat("decode b16   %9.1f  %.2f times batch 1\n",
                               value("decode_16_tokens_per_second"),
                               value("decode_16_of_decode_1"));
  std::cout << absl::StrFormat("decode b64   %9.1f  %.2f times batch 1\n",
                               value("decode_64_tokens_per_second"),
                               value("decode_64_of_decode_1"));
  std::cout << absl::StrFormat("prefill 2048 %9.1f  %.0f %% of the rate of products\n",
                               value("prefill_2048_tokens_per_second"),
                               100 * value("prefill_2048_of_gemm"));
  std::cout << absl::StrFormat("paged attention over 8k: %.0f %% of the read bandwidth\n",
                               100 * value("paged_attention_8k_of_bandwidth"));
  std::cout << absl::StrFormat("grouped FFN: %.0f %% of one dense block\n",
                               100 * value("grouped_ffn_of_dense"));
}

}  // namespace

absl::Status BenchGpu(const BenchGpuOptions& options) {
  ThreadTeam team(options.model.threads);
  CCOE_ASSIGN_OR_RETURN(const auto compute,
                        services::Compute::Create(ToComputeOptions(options.model.compute), &team));
  if (!compute->cuda_device().has_value()) {
    return absl::InvalidArgumentError("bench of a GPU: expected --device cuda, found cpu");
  }
  Samples samples;
  nlohmann::json results;
  {
    CCOE_ASSIGN_OR_RETURN(const auto offline, Engine(options));
    // Brings everything to its size.
    CCOE_RETURN_IF_ERROR(MeasureBase(*offline, 1, kPrefillTokens, 2).status());
    CCOE_RETURN_IF_ERROR(MeasureBase(*offline, kLargestBatch, kPromptTokens, 2).status());
    Progress progress("bench", options.rounds);
    for (int round = 0; round < options.rounds; ++round) {
      progress.Update(round);
      CCOE_RETURN_IF_ERROR(Round(*offline, *compute->cuda_device(), options.new_tokens, samples));
    }
    progress.Update(options.rounds);
    CCOE_ASSIGN_OR_RETURN(results, Results(samples, *compute, offline->spec()));
  }
  if (options.json) {
    std::cout << results.dump() << "\n";
  } else {
    PrintTable(results);
  }
  return absl::OkStatus();
}

}  // namespace ccoe::cli
