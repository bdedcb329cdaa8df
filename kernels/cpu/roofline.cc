// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/roofline.h"

#include <cblas.h>
#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace ccoe::kernels {
namespace {

constexpr int64_t kWordsPerTask = 128 * 1024;  // 1 MiB

// Streams that a core reads side by side, as the GEMV reads several rows of weights: one stream
// alone keeps too few cache lines in flight to fill the memory bus.
constexpr int64_t kStreams = 8;
constexpr int64_t kLineWords = 8;
constexpr int64_t kPrefetchWords = 128;  // 1 KiB ahead

// Integer sums: the compiler may vectorise and reorder them, so the loop only waits for memory.
// count is a multiple of kStreams * kLineWords.
uint64_t Sum(const uint64_t* words, int64_t count) {
  const int64_t part = count / kStreams;
  uint64_t sums[kLineWords] = {};
  for (int64_t i = 0; i < part; i += kLineWords) {
    for (int64_t s = 0; s < kStreams; ++s) {
      const uint64_t* line = words + s * part + i;
      __builtin_prefetch(line + kPrefetchWords);
      for (int64_t w = 0; w < kLineWords; ++w) sums[w] += line[w];
    }
  }
  uint64_t sum = 0;
  for (uint64_t s : sums) sum += s;
  return sum;
}

template <class F>
double BestSeconds(int passes, F&& pass) {
  pass();  // touches pages, wakes threads
  double best = 1e30;
  for (int i = 0; i < passes; ++i) {
    const absl::Time begin = absl::Now();
    pass();
    best = std::min(best, absl::ToDoubleSeconds(absl::Now() - begin));
  }
  return best;
}

// OpenBLAS starts its threads when it is loaded, so the servers that share this binary must not
// link it: it is loaded when a benchmark asks for it, and stays.
struct OpenBlas {
  decltype(&cblas_sgemm) sgemm = nullptr;
  decltype(&openblas_get_num_threads) get_threads = nullptr;
  decltype(&openblas_set_num_threads) set_threads = nullptr;
};

template <class F>
void Find(void* library, const char* name, F*& function) {
  function = reinterpret_cast<F*>(dlsym(library, name));
}

absl::StatusOr<OpenBlas> LoadOpenBlas() {
  void* library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    return absl::NotFoundError(absl::StrCat("OpenBLAS (package libopenblas-dev): ", dlerror()));
  OpenBlas blas;
  Find(library, "cblas_sgemm", blas.sgemm);
  Find(library, "openblas_get_num_threads", blas.get_threads);
  Find(library, "openblas_set_num_threads", blas.set_threads);
  if (blas.sgemm == nullptr || blas.get_threads == nullptr || blas.set_threads == nullptr) {
    return absl::NotFoundError("libopenblas.so.0: cblas_sgemm or its thread functions are missing");
  }
  return blas;
}

}  // namespace

double MeasureReadBandwidth(ThreadTeam* team, const ReadBandwidthOptions& options) {
  const int64_t tasks = std::max<int64_t>(1, options.bytes / 8 / kWordsPerTask);
  const std::vector<uint64_t> words(tasks * kWordsPerTask, 1);
  std::atomic<uint64_t> sink{0};
  const double seconds = BestSeconds(options.passes, [&] {
    team->Run(tasks,
              [&](int64_t task) { sink += Sum(&words[task * kWordsPerTask], kWordsPerTask); });
  });
  return static_cast<double>(words.size() * sizeof(uint64_t)) / seconds;
}

absl::StatusOr<double> MeasureSgemm(int threads, const SgemmOptions& options) {
  absl::StatusOr<OpenBlas> blas = LoadOpenBlas();
  if (!blas.ok()) return blas.status();
  const int64_t m = options.rows, n = options.out_features, k = options.in_features;
  const std::vector<float> x(m * k, 0.5f), weight(n * k, 0.25f);
  std::vector<float> out(m * n);
  const int before = blas->get_threads();
  blas->set_threads(threads);
  const double seconds = BestSeconds(options.passes, [&] {
    blas->sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1.0f, x.data(), k, weight.data(),
                k, 0.0f, out.data(), n);
  });
  blas->set_threads(before);
  return 2.0 * m * n * k / seconds;
}

}  // namespace ccoe::kernels
