// Copies of rows on a device.
#ifndef CCOE_RUNTIME_EXCHANGE_ROW_COPY_H_
#define CCOE_RUNTIME_EXCHANGE_ROW_COPY_H_

#include "kernels/ops.h"
#include "kernels/view.h"

namespace ccoe::exchange {

// to = from, converting where dtypes differ, as row_codec.h rounds. Both on the device of `ops`,
// which takes it up in its order and does not wait.
void CopyRows(kernels::Ops& ops, kernels::ConstMatrix from, kernels::Matrix to);

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_ROW_COPY_H_
