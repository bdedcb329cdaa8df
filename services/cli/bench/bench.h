// SPDX-License-Identifier: Apache-2.0
// `ccoe bench`: the speed of this machine's kernels and engine on a random model, against what the
// machine can do, measured in the same run. Below it: `memory` (one backbone with experts against
// full models), `moe` (FFN experts), `serve` (the load generator for a running server).
#ifndef CCOE_SERVICES_CLI_BENCH_BENCH_H_
#define CCOE_SERVICES_CLI_BENCH_BENCH_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "services/cli/bench/model.h"

namespace ccoe::cli {

struct BenchFlags {
  BenchModelFlags model;
  int rounds = 3;           // the median counts
  int64_t new_tokens = 32;  // each query decodes
  bool json = false;
};

// With a GPU as the flags' device, and the model in `folder` made already: prints decode of 1, 16
// and 64 queries against the read bandwidth, prefill of 2048 tokens against the rate of matrix
// products, and single ops; all measured in this run.
absl::Status BenchGpu(const BenchFlags& flags, const std::string& folder);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_BENCH_BENCH_H_
