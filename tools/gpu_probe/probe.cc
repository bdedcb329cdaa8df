// SPDX-License-Identifier: Apache-2.0
#include "tools/gpu_probe/probe.h"

#include <algorithm>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/base/status_macros.h"

namespace ccoe::probe {
namespace {

constexpr Section kSections[] = {
    {"device", RunDevice, 20, true},
    {"kernels", RunKernels, 20, true},
    {"conformance", RunConformance, 60, true},
    {"bits", RunBits, 20, true},
    {"matmul", RunMatmul, 40, true},
    {"ops", RunOps, 30, true},
    {"decoder", RunDecoder, 60, true},
    {"captured", RunCapturedSteps, 20, true},
    {"ranks", RunRanks, 30, true},
    {"profiled", RunProfiled, 60, false},
};

constexpr int kRounds = 4;
constexpr double kRoundSeconds = 0.004;
constexpr int64_t kMostCalls = 256;

}  // namespace

absl::Span<const Section> Sections() { return kSections; }

Probe::Probe(absl::string_view section, const ProbeOptions& options)
    : section_(section), options_(options), begin_(absl::Now()) {}

absl::Duration Probe::left() const { return options_.deadline - absl::Now(); }

void Probe::Say(const Line& fields) {
  Line line = {
      {"section", section_},
      {"seconds", static_cast<int64_t>(absl::ToDoubleSeconds(absl::Now() - begin_) * 100) / 100.0}};
  line.update(fields);
  if (fields.contains("ok") && fields["ok"] == false) failed_ = true;
  // What it prints may come from a library: no bytes of another encoding end the run.
  std::cout << line.dump(-1, ' ', false, Line::error_handler_t::replace) << std::endl;
}

void Probe::Fail(absl::string_view what, absl::string_view error) {
  Say({{"what", std::string(what)}, {"ok", false}, {"error", std::string(error)}});
}

absl::StatusOr<kernels::Device*> Probe::Device() {
  if (device_ == nullptr) {
    CCOE_ASSIGN_OR_RETURN(device_, kernels::OpenCudaDevice(0));
  }
  return device_.get();
}

absl::StatusOr<std::unique_ptr<kernels::Ops>> Probe::MakeOps(const kernels::CudaOptions& options) {
  CCOE_ASSIGN_OR_RETURN(kernels::Device* const device, Device());
  return kernels::MakeCudaOps(device, options);
}

absl::StatusOr<double> SecondsOfCall(const Probe& probe, absl::FunctionRef<void()> work,
                                     absl::FunctionRef<absl::Status()> wait) {
  const auto round = [&](int64_t calls) -> absl::StatusOr<double> {
    const absl::Time begin = absl::Now();
    for (int64_t i = 0; i < calls; ++i) work();
    CCOE_RETURN_IF_ERROR(wait());
    return absl::ToDoubleSeconds(absl::Now() - begin) / static_cast<double>(calls);
  };
  CCOE_ASSIGN_OR_RETURN(double best, round(1));  // warms up
  if (probe.small()) return best;
  CCOE_ASSIGN_OR_RETURN(best, round(2));
  const auto calls = static_cast<int64_t>(kRoundSeconds / std::max(best, 1e-7));
  for (int i = 0; i < kRounds; ++i) {
    CCOE_ASSIGN_OR_RETURN(const double seconds, round(std::clamp<int64_t>(calls, 2, kMostCalls)));
    best = i == 0 ? seconds : std::min(best, seconds);
  }
  return best;
}

}  // namespace ccoe::probe
