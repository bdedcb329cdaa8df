#include "runtime/exchange/swap_size.h"

#include <algorithm>

namespace ccoe::exchange {
namespace {

// Of a dispatch, at most: a row's count, and a pair's expert and weight.
constexpr int64_t kCountBytes = 5;
constexpr int64_t kPairBytes = 5 + sizeof(float);

int64_t RowBytes(int64_t hidden_size, kernels::DType wire_dtype) {
  return hidden_size * static_cast<int64_t>(kernels::DTypeBytes(wire_dtype));
}

}  // namespace

SwapBytes SizeOf(const StepHeader& header) {
  const int64_t row_bytes = RowBytes(header.hidden_size, header.wire_dtype);
  SwapBytes bytes = {header.rows() * row_bytes, header.returned_rows() * row_bytes};
  if (header.ffn.has_value()) {
    bytes.sent += header.ffn->rows() * kCountBytes + header.ffn->pairs() * kPairBytes;
  } else if (header.capture_layers) {
    bytes.returned +=
        header.layers.size() * header.rows() * RowBytes(header.hidden_size, kernels::DType::kF32);
  }
  return bytes;
}

int64_t MaxSwapRows(const SwapForm& form, const SwapBounds& bounds) {
  const int64_t row_bytes = RowBytes(form.hidden_size, form.wire_dtype);
  int64_t sent = row_bytes, returned = row_bytes;
  if (form.experts_per_row > 0) {
    sent += kCountBytes + form.experts_per_row * kPairBytes;
    if (!form.combine) returned *= form.experts_per_row;
  }
  return std::min(bounds.max_rows, bounds.max_bytes / std::max({sent, returned, int64_t{1}}));
}

}  // namespace ccoe::exchange
