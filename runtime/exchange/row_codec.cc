#include "runtime/exchange/row_codec.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"

namespace ccoe::exchange {

// Memory and wire have the same byte order on every machine ccoe runs on (weights are read in
// place, too).
static_assert(std::endian::native == std::endian::little);

uint16_t ToBF16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  // Rounding could carry a NaN's payload over into infinity: cut it off and keep it quiet.
  if (std::isnan(value)) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float FromBF16(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

void EncodeRows(kernels::ConstMatrix rows, kernels::DType wire, std::string& bytes) {
  CCOE_CHECK(rows.dtype == kernels::DType::kF32);
  CCOE_CHECK(wire == kernels::DType::kF32 || wire == kernels::DType::kBF16);
  const size_t row_bytes = static_cast<size_t>(rows.cols) * kernels::DTypeBytes(wire);
  bytes.resize(row_bytes * static_cast<size_t>(rows.rows));
  for (int64_t r = 0; r < rows.rows; ++r) {
    char* target = bytes.data() + static_cast<size_t>(r) * row_bytes;
    const float* source = static_cast<const float*>(rows.Row(r));
    if (wire == kernels::DType::kF32) {
      std::memcpy(target, source, row_bytes);
      continue;
    }
    for (int64_t c = 0; c < rows.cols; ++c) {
      const uint16_t element = ToBF16(source[c]);
      std::memcpy(target + c * sizeof(element), &element, sizeof(element));
    }
  }
}

absl::StatusOr<std::vector<float>> DecodeRows(absl::string_view bytes, int64_t rows, int64_t cols,
                                              kernels::DType wire) {
  if (wire != kernels::DType::kF32 && wire != kernels::DType::kBF16) {
    return absl::InvalidArgumentError(
        absl::StrCat("wire dtype: expected f32 or bf16, found ", kernels::DTypeName(wire)));
  }
  const size_t count = static_cast<size_t>(rows) * static_cast<size_t>(cols);
  const size_t expected = count * kernels::DTypeBytes(wire);
  if (bytes.size() != expected) {
    return absl::InvalidArgumentError(absl::StrCat("rows: expected ", expected, " bytes (", rows,
                                                   " rows of ", cols, " ", kernels::DTypeName(wire),
                                                   "), found ", bytes.size()));
  }
  std::vector<float> values(count);
  if (wire == kernels::DType::kF32) {
    if (count > 0) std::memcpy(values.data(), bytes.data(), expected);
    return values;
  }
  for (size_t i = 0; i < count; ++i) {
    uint16_t element;
    std::memcpy(&element, bytes.data() + i * sizeof(element), sizeof(element));
    values[i] = FromBF16(element);
  }
  return values;
}

void RoundToWire(kernels::DType wire, absl::Span<float> values) {
  if (wire != kernels::DType::kBF16) return;
  for (float& value : values) value = FromBF16(ToBF16(value));
}

}  // namespace ccoe::exchange
