// SPDX-License-Identifier: Apache-2.0
#include "services/cli/bench/bench.h"

#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "kernels/cpu/roofline.h"
#include "kernels/cuda/roofline/roofline.h"
#include "nlohmann/json.hpp"
#include "runtime/base/parallel.h"
#include "runtime/base/status_macros.h"
#include "services/cli/bench/model.h"
#include "services/cli/commands.h"
#include "services/cli/output.h"
#include "services/common/compute.h"
#include "services/offline/kernel_rates.h"
#include "services/offline/offline_engine.h"
#include "services/offline/throughput.h"

namespace ccoe::cli {
namespace {

constexpr int64_t kPromptTokens = 16;
constexpr int64_t kPrefillTokens = 512;
constexpr int64_t kBatch = 16;

// One value a round; the median is reported. Baselines and measurements take turns, so that a
// machine whose speed drifts drifts for both.
struct Samples {
  std::vector<double> bandwidth;                     // bytes a second
  std::vector<double> sgemm;                         // FLOP a second
  std::vector<double> decode_1, decode_16, prefill;  // tokens a second
};

absl::Status Round(services::OfflineEngine& offline, const BenchFlags& flags, ThreadTeam& team,
                   Samples& samples) {
  samples.bandwidth.push_back(kernels::MeasureReadBandwidth(&team));
  CCOE_ASSIGN_OR_RETURN(const auto one, MeasureBase(offline, 1, kPromptTokens, flags.new_tokens));
  samples.decode_1.push_back(one.decode_tokens_per_second);
  CCOE_ASSIGN_OR_RETURN(const auto many,
                        MeasureBase(offline, kBatch, kPromptTokens, flags.new_tokens));
  samples.decode_16.push_back(many.decode_tokens_per_second);
  kernels::SgemmOptions sgemm;
  sgemm.rows = kPrefillTokens;
  sgemm.in_features = offline.spec().hidden_size;
  sgemm.out_features = offline.spec().layers.front().ffn.intermediate;
  CCOE_ASSIGN_OR_RETURN(const double sgemm_rate, kernels::MeasureSgemm(team.size(), sgemm));
  samples.sgemm.push_back(sgemm_rate);
  CCOE_ASSIGN_OR_RETURN(const auto prefill, MeasureBase(offline, 1, kPrefillTokens, 2));
  samples.prefill.push_back(prefill.prefill_tokens_per_second);
  return absl::OkStatus();
}

// The medians, and what they are of the machine's.
struct Result {
  double bandwidth, sgemm, decode_1, decode_16, prefill;
  double decode_1_bytes, decode_16_flops, prefill_flops;  // a second

  Result(const Samples& samples, const model::ModelSpec& spec, int64_t bytes_per_weight)
      : bandwidth(Median(samples.bandwidth)),
        sgemm(Median(samples.sgemm)),
        decode_1(Median(samples.decode_1)),
        decode_16(Median(samples.decode_16)),
        prefill(Median(samples.prefill)),
        decode_1_bytes(decode_1 *
                       static_cast<double>(services::DecodeBytes(spec, bytes_per_weight))),
        decode_16_flops(decode_16 * 2.0 * static_cast<double>(services::ParametersTouched(spec))),
        prefill_flops(prefill * services::PrefillFlops(spec, kPrefillTokens) / kPrefillTokens) {}
};

void PrintTable(const Result& r, const model::ModelSpec& spec, const BenchFlags& flags,
                int threads) {
  std::cout << absl::StrFormat(
      "model    random Llama, %.3f B parameters, %s, %d layers, hidden %d, vocabulary %d\n",
      services::ParametersTotal(spec) / 1e9, flags.model.dtype, spec.layer_count(),
      spec.hidden_size, spec.vocab_size);
  std::cout << absl::StrFormat(
      "machine  %d threads; read bandwidth %.1f GB/s, sgemm (OpenBLAS) %.0f GFLOP/s, in this "
      "run\n\n",
      threads, r.bandwidth / 1e9, r.sgemm / 1e9);
  std::cout << "              tokens/s  rate            against\n";
  std::cout << absl::StrFormat(
      "decode b1     %8.1f  %6.1f GB/s     %.0f %% of the read bandwidth\n", r.decode_1,
      r.decode_1_bytes / 1e9, 100 * r.decode_1_bytes / r.bandwidth);
  std::cout << absl::StrFormat("decode b16    %8.1f  %6.1f GFLOP/s  %.2f times batch 1\n",
                               r.decode_16, r.decode_16_flops / 1e9, r.decode_16 / r.decode_1);
  std::cout << absl::StrFormat("prefill 512   %8.1f  %6.1f GFLOP/s  %.0f %% of the sgemm rate\n",
                               r.prefill, r.prefill_flops / 1e9, 100 * r.prefill_flops / r.sgemm);
}

nlohmann::json ToJson(const Result& r, const model::ModelSpec& spec, int threads) {
  return {{"parameters", services::ParametersTotal(spec)},
          {"threads", threads},
          {"read_bandwidth_bytes_per_second", r.bandwidth},
          {"sgemm_flops_per_second", r.sgemm},
          {"decode_1_tokens_per_second", r.decode_1},
          {"decode_16_tokens_per_second", r.decode_16},
          {"prefill_512_tokens_per_second", r.prefill},
          {"decode_1_of_bandwidth", r.decode_1_bytes / r.bandwidth},
          {"decode_16_of_decode_1", r.decode_16 / r.decode_1},
          {"prefill_512_of_sgemm", r.prefill_flops / r.sgemm}};
}

absl::Status Bench(const BenchFlags& flags) {
  CCOE_ASSIGN_OR_RETURN(const auto folder, BenchFolder::Create(flags.model));
  ThreadTeam team(flags.model.threads);
  // Before a model is made for a device that is not there.
  CCOE_RETURN_IF_ERROR(services::Compute::Create(flags.model.compute, &team).status());
  const std::string model = folder->Path("model");
  const model::RandomModelOptions model_options = ToModelOptions(flags.model, /*seed=*/1);
  CCOE_RETURN_IF_ERROR(model::WriteRandomModel(model_options, model, team));

  if (flags.model.compute.device != "cpu") {
    return BenchGpu(flags, model);
  }

  services::OfflineOptions options;
  options.model_folder = model;
  options.threads = flags.model.threads;
  options.engine.kv_tokens = 8192;
  CCOE_ASSIGN_OR_RETURN(const auto offline, services::OfflineEngine::Create(options));
  CCOE_RETURN_IF_ERROR(
      MeasureBase(*offline, 1, kPrefillTokens, 2).status());  // pages the weights in
  Samples samples;
  Progress progress("bench", flags.rounds);
  for (int round = 0; round < flags.rounds; ++round) {
    progress.Update(round);
    CCOE_RETURN_IF_ERROR(Round(*offline, flags, team, samples));
  }
  progress.Update(flags.rounds);
  const Result result(samples, offline->spec(),
                      static_cast<int64_t>(kernels::DTypeBytes(model_options.dtype)));
  if (flags.json) {
    std::cout << ToJson(result, offline->spec(), team.size()).dump() << "\n";
  } else {
    PrintTable(result, offline->spec(), flags, team.size());
  }
  return absl::OkStatus();
}

// The same on a GPU.

constexpr int64_t kGpuPrefillTokens = 2048;
constexpr int64_t kLargestBatch = 64;

// One value a round. The GPU's own rates and the model's take turns, so that a clock that changes
// changes for both.
struct GpuSamples {
  std::vector<double> bandwidth;                                // bytes a second
  std::vector<double> gemm;                                     // FLOP a second
  std::vector<double> decode_1, decode_16, decode_64, prefill;  // tokens a second
};

absl::Status GpuRound(services::OfflineEngine& offline, int device, int64_t new_tokens,
                      GpuSamples& samples) {
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
  CCOE_ASSIGN_OR_RETURN(const auto prefill, MeasureBase(offline, 1, kGpuPrefillTokens, 2));
  samples.prefill.push_back(prefill.prefill_tokens_per_second);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<services::OfflineEngine>> GpuEngine(const BenchFlags& flags,
                                                                   const std::string& folder) {
  services::OfflineOptions offline;
  offline.model_folder = folder;
  offline.threads = flags.model.threads;
  offline.compute = flags.model.compute;
  offline.engine.max_step_tokens = kGpuPrefillTokens;
  offline.engine.max_prefill_chunk = kGpuPrefillTokens;
  offline.engine.kv_tokens =
      std::max(2 * kGpuPrefillTokens, 2 * kLargestBatch * (kPromptTokens + flags.new_tokens));
  return services::OfflineEngine::Create(offline);
}

absl::StatusOr<nlohmann::json> GpuResults(const GpuSamples& samples,
                                          const services::Compute& compute,
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
       prefill * services::PrefillFlops(spec, kGpuPrefillTokens) / kGpuPrefillTokens / gemm}};
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

void PrintGpuTable(const nlohmann::json& r) {
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

absl::Status BenchGpu(const BenchFlags& flags, const std::string& folder) {
  ThreadTeam team(flags.model.threads);
  CCOE_ASSIGN_OR_RETURN(const auto compute, services::Compute::Create(flags.model.compute, &team));
  if (!compute->cuda_device().has_value()) {
    return absl::InvalidArgumentError("bench of a GPU: expected --device cuda, found cpu");
  }
  GpuSamples samples;
  nlohmann::json results;
  {
    CCOE_ASSIGN_OR_RETURN(const auto offline, GpuEngine(flags, folder));
    // Brings everything to its size.
    CCOE_RETURN_IF_ERROR(MeasureBase(*offline, 1, kGpuPrefillTokens, 2).status());
    CCOE_RETURN_IF_ERROR(MeasureBase(*offline, kLargestBatch, kPromptTokens, 2).status());
    Progress progress("bench", flags.rounds);
    for (int round = 0; round < flags.rounds; ++round) {
      progress.Update(round);
      CCOE_RETURN_IF_ERROR(GpuRound(*offline, *compute->cuda_device(), flags.new_tokens, samples));
    }
    progress.Update(flags.rounds);
    CCOE_ASSIGN_OR_RETURN(results, GpuResults(samples, *compute, offline->spec()));
  }
  if (flags.json) {
    std::cout << results.dump() << "\n";
  } else {
    PrintGpuTable(results);
  }
  return absl::OkStatus();
}

void RegisterBench(CLI::App& app, CommandContext& context) {
  auto flags = std::make_shared<BenchFlags>();
  CLI::App* command = AddCommand(app, context, "bench",
                                 "Measures decode and prefill of a random model against this "
                                 "machine's bandwidth and sgemm rate.",
                                 [flags] { return Bench(*flags); });
  AddBenchModelFlags(command, flags->model);
  AddFlag(command, "--rounds", flags->rounds, "Rounds; the median counts.").Range(1, 100);
  AddFlag(command, "--new-tokens", flags->new_tokens, "Tokens each query decodes.")
      .Range(int64_t{2}, int64_t{1024});
  AddSwitch(command, "--json", flags->json, "Print JSON.");
  RegisterBenchMemory(*command, context);
  RegisterBenchMoe(*command, context);
  RegisterBenchServe(*command, context);
}

}  // namespace ccoe::cli
