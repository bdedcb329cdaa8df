// SPDX-License-Identifier: Apache-2.0
// `ccoe bench serve`: puts a load on a running server and reports, in the terms of `vllm bench
// serve`, how it is served: latencies, throughput, refusals and errors, the worst gap between two
// tokens, and, against another run's record, whether the answers are the same bit for bit.
#ifndef CCOE_SERVICES_CLI_BENCH_SERVE_H_
#define CCOE_SERVICES_CLI_BENCH_SERVE_H_

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "ccoe/v1/common.pb.h"
#include "services/cli/bench/load_run.h"
#include "services/cli/bench/serve_report.h"
#include "services/cli/client/client.h"

namespace ccoe::cli {

// Names and meanings are those of `vllm bench serve` where it has them.
struct BenchServeFlags {
  ClientFlags client;
  // The load.
  int64_t num_prompts = 0;  // 0: not given
  double duration_seconds = 0.0;
  double request_rate = std::numeric_limits<double>::infinity();
  double burstiness = 1.0;
  int64_t max_concurrency = 0;
  int64_t seed = 0;
  // The prompts.
  std::string dataset = "random";
  std::string dataset_path;
  int64_t random_input = 1024;
  int64_t random_output = 128;
  double random_range_ratio = 0.0;
  int64_t random_prefix = 0;
  int64_t custom_output = 256;
  bool raw = false;
  // The experts.
  std::vector<std::string> experts;
  bool all_experts = false;
  double zipf = 0.0;
  // How tokens are chosen.
  float temperature = 0.0f;
  int top_k = 0;
  float top_p = 1.0f;
  bool ignore_eos = false;
  // The report.
  std::vector<std::string> goodput;
  std::string percentile_metrics = "ttft,tpot,itl,e2el";
  std::string metric_percentiles = "99";
  bool save_result = false;
  std::string result_dir = ".";
  std::string result_filename;
  std::string record;
  std::string compare;
  bool json = false;
};

// UsageErrors name the flag that is wrong, or the two that do not go together.
absl::Status CheckBenchServeFlags(const BenchServeFlags& flags);
LoadRunOptions ToLoadRunOptions(const BenchServeFlags& flags);
// What the flags say of the report; what the run says is left to the caller.
absl::StatusOr<ServeReport> ToServeReport(const BenchServeFlags& flags);

// Of request `index`: where tokens are drawn, each request has a seed of its own, the same in every
// run with the same --seed.
v1::Sampling ToSampling(const BenchServeFlags& flags, int64_t index, int64_t output_tokens);

// The file of --save-result: --result-filename, or a name that says the load and the date.
std::string ResultPath(const BenchServeFlags& flags, const ServeReport& report);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_BENCH_SERVE_H_
