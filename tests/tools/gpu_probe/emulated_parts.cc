// SPDX-License-Identifier: Apache-2.0
// What the emulated GPU has not: instructions of Hopper, and NCCL.
#include "absl/status/status.h"
#include "tools/gpu_probe/probe.h"
#include "tools/gpu_probe/ranks.h"

namespace ccoe::probe {

absl::StatusOr<Line> CompareWgmma() {
  return absl::UnimplementedError("an emulated GPU has no wgmma");
}

absl::Status RunRanks(Probe&) { return absl::UnimplementedError("no NCCL over an emulated GPU"); }
int RunRank(const std::string&) { return 2; }
Line DescribeLibraries() { return {{"nccl", "none over an emulated GPU"}}; }

}  // namespace ccoe::probe
