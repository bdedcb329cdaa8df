#include "runtime/exchange/row_copy.h"

#include <cstdint>
#include <numeric>
#include <vector>

namespace ccoe::exchange {

void CopyRows(kernels::Ops& ops, kernels::ConstMatrix from, kernels::Matrix to) {
  std::vector<int32_t> rows(static_cast<size_t>(from.rows));
  std::iota(rows.begin(), rows.end(), 0);
  ops.GatherRows(from, rows, to);
}

}  // namespace ccoe::exchange
