// SPDX-License-Identifier: Apache-2.0
// Sampling on the CPU.
#ifndef CCOE_KERNELS_CPU_SAMPLE_H_
#define CCOE_KERNELS_CPU_SAMPLE_H_

#include "absl/types/span.h"
#include "kernels/sample.h"
#include "runtime/base/parallel.h"

namespace ccoe::kernels {

// See Ops::SampleRows.
void CpuSampleRows(ThreadTeam* team, const SampleRowsArgs& args, absl::Span<SampledRow> out);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CPU_SAMPLE_H_
