// SPDX-License-Identifier: Apache-2.0
// The CPU device and its ops (Highway, chosen for the machine at run time).
#ifndef CCOE_KERNELS_CPU_CPU_OPS_H_
#define CCOE_KERNELS_CPU_CPU_OPS_H_

#include <memory>

#include "absl/status/status.h"
#include "kernels/device.h"
#include "kernels/dtype.h"
#include "kernels/ops.h"
#include "runtime/base/parallel.h"

namespace ccoe::kernels {

// Host memory, mapped in pages that become resident when written. One for the process, never
// destroyed.
Device& CpuDevice();

// Ops on CpuDevice() that cut their loops over `team`, which must outlive them. Several Ops (of
// several threads) may share a team: their loops take turns.
std::unique_ptr<Ops> MakeCpuOps(ThreadTeam* team);

// OK where a KvLayer of this dtype can be used (f32), else UNIMPLEMENTED. Ask before making a
// cache: the ops abort on another dtype.
absl::Status CheckCpuKvDtype(DType dtype);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CPU_CPU_OPS_H_
