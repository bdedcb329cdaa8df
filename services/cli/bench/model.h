// SPDX-License-Identifier: Apache-2.0
// The random models that benchmarks run on, in a folder of their own, and how they are measured.
#ifndef CCOE_SERVICES_CLI_BENCH_MODEL_H_
#define CCOE_SERVICES_CLI_BENCH_MODEL_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/model/families/random_model.h"
#include "services/cli/command.h"
#include "services/common/compute.h"
#include "services/offline/offline_engine.h"
#include "services/offline/throughput.h"

namespace ccoe::cli {

struct BenchModelFlags {
  std::string
      folder;  // where the models are made; empty: a fresh one below the system's temporary folder
  bool keep = false;
  int threads = 0;
  services::ComputeOptions compute;
  int64_t hidden = 1024;
  int64_t layers = 16;
  int64_t heads = 16;
  int64_t kv_heads = 4;
  int64_t intermediate = 2816;
  int64_t vocabulary = 32000;
  std::string dtype = "bf16";
};

// --dir, --keep, --threads, the model's shape, and those of services::ComputeFlags.
void AddBenchModelFlags(CLI::App* command, BenchModelFlags& flags);
model::RandomModelOptions ToModelOptions(const BenchModelFlags& flags, uint64_t seed);

// A folder for a benchmark's models, removed at the end unless it is to be kept. However the
// process ends: a child of it waits for that, and removes what the process could not (models are
// gigabytes, and benchmarks are what people interrupt).
class BenchFolder {
 public:
  static absl::StatusOr<std::unique_ptr<BenchFolder>> Create(const BenchModelFlags& flags);
  ~BenchFolder();
  BenchFolder(const BenchFolder&) = delete;
  BenchFolder& operator=(const BenchFolder&) = delete;

  std::string Path(const std::string& name) const { return path_ + "/" + name; }

 private:
  explicit BenchFolder(std::string path) : path_(std::move(path)) {}
  absl::Status StartGuard();

  const std::string path_;
  // The child, and the end of a pipe that closes with this process; none of a folder that is kept.
  pid_t guard_ = -1;
  int guard_fd_ = -1;
};

// The upper one of two; 0 of none.
double Median(std::vector<double> values);

// `queries` of the base at once, each with `prompt` tokens and `tokens` new ones.
absl::StatusOr<services::Throughput> MeasureBase(services::OfflineEngine& offline, int64_t queries,
                                                 int64_t prompt, int64_t tokens);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_BENCH_MODEL_H_
