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

namespace {

// Appends, so that memory is written once.
void AppendF32(kernels::ConstMatrix rows, std::string& bytes) {
  const size_t row_bytes = static_cast<size_t>(rows.cols) * sizeof(float);
  if (rows.stride == rows.cols || rows.rows == 1) {
    bytes.append(static_cast<const char*>(rows.data), row_bytes * static_cast<size_t>(rows.rows));
    return;
  }
  for (int64_t r = 0; r < rows.rows; ++r) {
    bytes.append(static_cast<const char*>(rows.Row(r)), row_bytes);
  }
}

// `bytes` as floats, copied once where their address allows it.
std::vector<float> FloatsOf(absl::string_view bytes) {
  const size_t count = bytes.size() / sizeof(float);
  if (reinterpret_cast<uintptr_t>(bytes.data()) % alignof(float) == 0) {
    const float* begin = reinterpret_cast<const float*>(bytes.data());
    return std::vector<float>(begin, begin + count);
  }
  std::vector<float> values(count);
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

}  // namespace

void EncodeRows(kernels::ConstMatrix rows, kernels::DType wire, std::string& bytes) {
  CCOE_CHECK(rows.dtype == kernels::DType::kF32);
  CCOE_CHECK(wire == kernels::DType::kF32 || wire == kernels::DType::kBF16);
  const size_t row_bytes = static_cast<size_t>(rows.cols) * kernels::DTypeBytes(wire);
  bytes.clear();
  if (rows.rows == 0) return;
  if (wire == kernels::DType::kF32) {
    bytes.reserve(row_bytes * static_cast<size_t>(rows.rows));
    return AppendF32(rows, bytes);
  }
  bytes.resize(row_bytes * static_cast<size_t>(rows.rows));
  for (int64_t r = 0; r < rows.rows; ++r) {
    char* target = bytes.data() + static_cast<size_t>(r) * row_bytes;
    const float* source = static_cast<const float*>(rows.Row(r));
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
  if (count == 0) return std::vector<float>();
  if (wire == kernels::DType::kF32) return FloatsOf(bytes);
  std::vector<float> values(count);
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
