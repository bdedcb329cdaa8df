// SPDX-License-Identifier: Apache-2.0
// Rows between memory (f32) and the wire (f32 or bf16, little-endian, row-major, no padding),
// and copies of rows on a device.
#ifndef CCOE_RUNTIME_EXCHANGE_ROW_CODEC_H_
#define CCOE_RUNTIME_EXCHANGE_ROW_CODEC_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kernels/dtype.h"
#include "kernels/ops.h"
#include "kernels/view.h"

namespace ccoe::exchange {

// The bf16 nearest to `value`, ties to even; NaN stays NaN.
uint16_t ToBF16(float value);
float FromBF16(uint16_t bits);

// Sets `bytes` to the wire form of `rows` (f32, any stride): of all of them, or of those that
// `index` names, in its order. `wire` is kF32 or kBF16.
void EncodeRows(kernels::ConstMatrix rows, kernels::DType wire, std::string& bytes,
                absl::Span<const int32_t> index = {});

// [rows, cols] f32 from wire bytes. INVALID_ARGUMENT where the byte count is not rows * cols
// elements' worth or `wire` is neither kF32 nor kBF16.
absl::StatusOr<std::vector<float>> DecodeRows(absl::string_view bytes, int64_t rows, int64_t cols,
                                              kernels::DType wire);

// Rounds `values` as a trip over the wire would: what keeps a link without a wire equal, bit for
// bit, to one with.
void RoundToWire(kernels::DType wire, absl::Span<float> values);

// to = from, converting where dtypes differ, as row_codec.h rounds. Both on the device of `ops`,
// which takes it up in its order and does not wait.
void CopyRows(kernels::Ops& ops, kernels::ConstMatrix from, kernels::Matrix to);

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_ROW_CODEC_H_
