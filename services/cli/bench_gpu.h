// `ccoe bench --device cuda`: a random model on a GPU against what the GPU can do.
#ifndef CCOE_SERVICES_CLI_BENCH_GPU_H_
#define CCOE_SERVICES_CLI_BENCH_GPU_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "services/cli/bench_model.h"

namespace ccoe::cli {

struct BenchGpuOptions {
  BenchModelFlags model;    // its device is a GPU
  std::string folder;       // of the model, made already
  int rounds = 3;           // the median counts
  int64_t new_tokens = 32;  // each query decodes
  bool json = false;
};

// Prints decode of 1, 16 and 64 queries against the read bandwidth, prefill of 2048 tokens against
// the rate of matrix products, and single ops; all measured in this run.
absl::Status BenchGpu(const BenchGpuOptions& options);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_BENCH_GPU_H_
