// SPDX-License-Identifier: Apache-2.0
// What this machine can do at best, as a yardstick for the kernels: measured in the same run as
// they are, with the same threads. Loads OpenBLAS when it is first asked for.
#ifndef CCOE_KERNELS_CPU_ROOFLINE_H_
#define CCOE_KERNELS_CPU_ROOFLINE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/base/parallel.h"

namespace ccoe::kernels {

struct ReadBandwidthOptions {
  int64_t bytes =
      int64_t{256} << 20;  // read in a pass; should be several times the last-level cache
  int passes = 5;          // the best one counts
};

// Bytes a second that `team` reads from memory when it does nothing else.
double MeasureReadBandwidth(ThreadTeam* team, const ReadBandwidthOptions& options = {});

struct SgemmOptions {
  int64_t rows = 512;
  int64_t in_features = 1024;
  int64_t out_features = 2816;
  int passes = 5;  // the best one counts
};

// NOT_FOUND where OpenBLAS is not installed. FLOP a second of OpenBLAS's sgemm for x[rows, in] *
// weight[out, in]^T on `threads` threads. Not thread-safe: sets OpenBLAS's thread count while it
// runs.
absl::StatusOr<double> MeasureSgemm(int threads, const SgemmOptions& options = {});

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CPU_ROOFLINE_H_
