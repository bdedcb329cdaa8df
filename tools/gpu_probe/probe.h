// SPDX-License-Identifier: Apache-2.0
// What a section of the probe gets, and the sections there are.
#ifndef CCOE_TOOLS_GPU_PROBE_PROBE_H_
#define CCOE_TOOLS_GPU_PROBE_PROBE_H_

#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/device.h"
#include "nlohmann/json.hpp"

namespace ccoe::probe {

using Line = nlohmann::ordered_json;

struct ProbeOptions {
  bool small = false;  // sizes that an emulated GPU does in seconds
  absl::Time deadline = absl::InfiniteFuture();
  std::string tests;  // of the conformance section: a GoogleTest filter; empty: all
};

// Not thread-safe.
class Probe {
 public:
  Probe(absl::string_view section, const ProbeOptions& options);

  const ProbeOptions& options() const { return options_; }
  bool small() const { return options_.small; }
  absl::Duration left() const;

  // Prints a line at once. With `ok: false` in it the section has failed.
  void Say(const Line& fields);
  // `what` was found to be wrong, in `error`.
  void Fail(absl::string_view what, absl::string_view error);
  bool failed() const { return failed_; }

  // The first GPU, opened when it is first asked for.
  absl::StatusOr<kernels::Device*> Device();
  absl::StatusOr<std::unique_ptr<kernels::Ops>> MakeOps(const kernels::CudaOptions& options);

 private:
  const std::string section_;
  const ProbeOptions options_;
  const absl::Time begin_;
  bool failed_ = false;
  std::unique_ptr<kernels::Device> device_;
};

// A section ends with an error where it cannot go on.
absl::Status RunDevice(Probe& probe);
absl::Status RunKernels(Probe& probe);
absl::Status RunConformance(Probe& probe);
absl::Status RunBits(Probe& probe);
absl::Status RunMatmul(Probe& probe);
absl::Status RunOps(Probe& probe);
absl::Status RunDecoder(Probe& probe);
absl::Status RunCapturedSteps(Probe& probe);
absl::Status RunRanks(Probe& probe);
absl::Status RunProfiled(Probe& probe);

struct Section {
  const char* name;
  absl::Status (*run)(Probe& probe);
  double most_seconds;  // of the budget
  bool by_default;
};
// In order of importance.
absl::Span<const Section> Sections();

// Seconds of one call of `work`, which puts something on a stream: the best of several rounds of so
// many calls that the host's part does not show; `wait` ends a round.
absl::StatusOr<double> SecondsOfCall(const Probe& probe, absl::FunctionRef<void()> work,
                                     absl::FunctionRef<absl::Status()> wait);

// Whether wgmma and mma.sync give the same bits from the same operands, in words, with how many of
// the elements do. UNIMPLEMENTED where the device has no such instruction.
absl::StatusOr<Line> CompareWgmma();
// Whether the versions of libraries that the program opens are there.
Line DescribeLibraries();

}  // namespace ccoe::probe

#endif  // CCOE_TOOLS_GPU_PROBE_PROBE_H_
