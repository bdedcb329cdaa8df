// SPDX-License-Identifier: Apache-2.0
// Rows between a test and a device.
#ifndef CCOE_TESTS_TESTING_DEVICE_ROWS_H_
#define CCOE_TESTS_TESTING_DEVICE_ROWS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/exchange/row_block.h"

namespace ccoe::testing {

// `rows` (f32, of host memory) in `memory`, as `dtype`.
inline exchange::RowBlock ToDevice(exchange::RowMemory& memory, kernels::ConstMatrix rows,
                                   kernels::DType dtype) {
  auto fresh = memory.Take(rows.rows, rows.cols, dtype);
  CCOE_CHECK(fresh.ok());
  std::string bytes;
  exchange::EncodeRows(rows, dtype, bytes);
  CCOE_CHECK(memory.device()->CopyFromHost(bytes.data(), fresh->rows.data, bytes.size()).ok());
  return std::move(fresh->block);
}

// The values of an owned block, wherever they lie.
inline std::vector<float> HostValues(const exchange::RowBlock& block) {
  if (!block.on_device()) return {block.host().begin(), block.host().end()};
  std::string bytes(block.bytes(), '\0');
  CCOE_CHECK(
      block.memory()->device()->CopyToHost(block.view().data, bytes.data(), bytes.size()).ok());
  auto values = exchange::DecodeRows(bytes, 1, block.values(), block.dtype());
  CCOE_CHECK(values.ok());
  return *std::move(values);
}

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_DEVICE_ROWS_H_
