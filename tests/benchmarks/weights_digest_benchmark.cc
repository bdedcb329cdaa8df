// SPDX-License-Identifier: Apache-2.0
// How fast weights are told apart: bytes a second that DigestWeights hashes with one thread and
// with all cores, beside a plain SHA-256 of memory, and what a remembered digest takes.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <ctime>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "benchmark/benchmark.h"
#include "runtime/base/check.h"
#include "runtime/base/sha256.h"
#include "runtime/model/weights_digest.h"

namespace ccoe::model {
namespace {

constexpr int kTensors = 48;
constexpr int64_t kTensorBytes = int64_t{16} << 20;

// 768 MiB in a folder that ends with the process, old enough to be remembered.
class Checkpoint {
 public:
  Checkpoint() : folder_(std::filesystem::temp_directory_path() / "ccoe_digest_XXXXXX") {
    CCOE_CHECK(::mkdtemp(folder_.data()) != nullptr);
    std::vector<uint32_t> values(kTensorBytes / sizeof(uint32_t));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint32_t>(i * 2654435761u);
    std::map<std::string, TensorView> tensors;
    for (int i = 0; i < kTensors; ++i) {
      tensors["tensor." + std::to_string(i)] = {
          values.data(), kernels::DType::kF32, {1024, kTensorBytes / 4096}, kTensorBytes};
    }
    const std::string path = folder_ + "/model.safetensors";
    CCOE_CHECK(WriteSafetensors(path, tensors).ok());
    const struct timespec old[2] = {{1'000'000'000, 0}, {1'000'000'000, 0}};
    CCOE_CHECK(::utimensat(AT_FDCWD, path.c_str(), old, 0) == 0);
    weights_ = Weights::Open(folder_).value();
  }
  ~Checkpoint() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  WeightsDigest Digest(int threads, bool cached) const {
    DigestOptions options;
    options.cache_folder = cached ? folder_ + "/cache" : "";
    options.threads = threads;
    return DigestWeights(*weights_, options).value();
  }

 private:
  std::string folder_;
  std::shared_ptr<const Weights> weights_;
};

const Checkpoint& TheCheckpoint() {
  static const auto checkpoint = std::make_unique<Checkpoint>();
  return *checkpoint;
}

void Sha256OfMemory(benchmark::State& state) {
  const std::string data(64 << 20, 'x');
  for (auto _ : state) {
    Sha256 digest;
    digest.Update(data);
    benchmark::DoNotOptimize(digest.Hex());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(data.size()));
}

void Hashed(benchmark::State& state) {
  int64_t bytes = 0;
  TheCheckpoint().Digest(0, false);  // makes it and brings it into the page cache
  for (auto _ : state) {
    bytes += TheCheckpoint().Digest(static_cast<int>(state.range(0)), false).hashed_bytes;
  }
  state.SetBytesProcessed(bytes);
}

void Remembered(benchmark::State& state) {
  TheCheckpoint().Digest(0, true);
  for (auto _ : state) CCOE_CHECK(TheCheckpoint().Digest(0, true).remembered);
}

// The processor's time is of all threads: where other work shares the machine, it says more.
BENCHMARK(Sha256OfMemory)->Unit(benchmark::kMillisecond)->MeasureProcessCPUTime()->UseRealTime();
BENCHMARK(Hashed)
    ->ArgName("threads")
    ->Arg(1)
    ->Arg(0)
    ->Unit(benchmark::kMillisecond)
    ->MeasureProcessCPUTime()
    ->UseRealTime();
BENCHMARK(Remembered)->Unit(benchmark::kMicrosecond)->UseRealTime();

}  // namespace
}  // namespace ccoe::model

BENCHMARK_MAIN();
