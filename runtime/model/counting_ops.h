// Ops over a device that only counts: what is made over them tells what memory it takes.
#ifndef CCOE_RUNTIME_MODEL_COUNTING_OPS_H_
#define CCOE_RUNTIME_MODEL_COUNTING_OPS_H_

#include <memory>

#include "kernels/ops.h"
#include "runtime/model/memory_plan.h"

namespace ccoe::model {

// For memory plans: aborts where an op is called. `device` outlives them.
std::unique_ptr<kernels::Ops> MakeCountingOps(CountingDevice* device);

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_COUNTING_OPS_H_
