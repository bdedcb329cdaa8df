// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/row_block.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"

namespace ccoe::exchange {
namespace {

constexpr size_t kAlignment = 512;

inline uint16_t NarrowBits(uint32_t bits) {
  // Rounding could carry a NaN's payload over into infinity: cut it off and keep it quiet.
  const uint32_t nan = (bits >> 16) | 0x40;
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? nan : rounded);
}

// Values converted at once, in a piece that stays in the first cache: what is written goes to
// memory once, without being cleared before.
constexpr size_t kPiece = 1024;

void NarrowPiece(const float* from, uint16_t* __restrict to, size_t count) {
  for (size_t i = 0; i < count; ++i) to[i] = NarrowBits(std::bit_cast<uint32_t>(from[i]));
}

void WidenPiece(const uint16_t* from, float* __restrict to, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    to[i] = std::bit_cast<float>(static_cast<uint32_t>(from[i]) << 16);
  }
}

void AppendBF16(const float* values, size_t count, std::string& bytes) {
  alignas(64) uint16_t piece[kPiece];
  for (size_t begin = 0; begin < count; begin += kPiece) {
    const size_t now = std::min(kPiece, count - begin);
    NarrowPiece(values + begin, piece, now);
    bytes.append(reinterpret_cast<const char*>(piece), now * sizeof(uint16_t));
  }
}

std::vector<float> FromBF16Bytes(absl::string_view bytes) {
  alignas(64) uint16_t narrow[kPiece];
  alignas(64) float wide[kPiece];
  const size_t count = bytes.size() / sizeof(uint16_t);
  std::vector<float> values;
  values.reserve(count);
  for (size_t begin = 0; begin < count; begin += kPiece) {
    const size_t now = std::min(kPiece, count - begin);
    std::memcpy(narrow, bytes.data() + begin * sizeof(uint16_t), now * sizeof(uint16_t));
    WidenPiece(narrow, wide, now);
    values.insert(values.end(), wide, wide + now);
  }
  return values;
}

// `bytes` as floats, copied once where their address allows it.
std::vector<float> FromF32Bytes(absl::string_view bytes) {
  const size_t count = bytes.size() / sizeof(float);
  if (reinterpret_cast<uintptr_t>(bytes.data()) % alignof(float) == 0) {
    const float* begin = reinterpret_cast<const float*>(bytes.data());
    return std::vector<float>(begin, begin + count);
  }
  std::vector<float> values(count);
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

void AppendValues(const float* values, int64_t count, kernels::DType wire, std::string& bytes) {
  if (wire == kernels::DType::kBF16) return AppendBF16(values, static_cast<size_t>(count), bytes);
  bytes.append(reinterpret_cast<const char*>(values), static_cast<size_t>(count) * sizeof(float));
}

}  // namespace

absl::StatusOr<std::shared_ptr<RowMemory>> RowMemory::Create(kernels::Device* device,
                                                             size_t bytes) {
  CCOE_ASSIGN_OR_RETURN(kernels::Buffer piece, device->Allocate(bytes));
  return Over(device, std::move(piece));
}

std::shared_ptr<RowMemory> RowMemory::Over(kernels::Device* device, kernels::Buffer piece) {
  return std::shared_ptr<RowMemory>(new RowMemory(device, std::move(piece)));
}

RowMemory::RowMemory(kernels::Device* device, kernels::Buffer piece)
    : device_(device), piece_(std::move(piece)) {
  const size_t bytes = piece_.size_bytes() / kAlignment * kAlignment;
  if (bytes > 0) free_[0] = bytes;
}

absl::StatusOr<RowMemory::Fresh> RowMemory::Take(int64_t rows, int64_t cols, kernels::DType dtype) {
  CCOE_CHECK(rows > 0 && cols > 0);
  const size_t used = static_cast<size_t>(rows * cols) * kernels::DTypeBytes(dtype);
  const size_t bytes = (used + kAlignment - 1) / kAlignment * kAlignment;
  size_t offset = 0;
  {
    absl::MutexLock lock(&mutex_);
    const auto room = std::find_if(free_.begin(), free_.end(),
                                   [bytes](const auto& piece) { return piece.second >= bytes; });
    if (room == free_.end()) {
      return absl::ResourceExhaustedError(
          absl::StrCat(device_->Name(), ": no ", bytes, " bytes are left together of the ",
                       piece_.size_bytes(), " for rows on their way"));
    }
    offset = room->first;
    const size_t left = room->second - bytes;
    free_.erase(room);
    if (left > 0) free_[offset + bytes] = left;
  }
  char* const data = static_cast<char*>(piece_.data()) + offset;
  const kernels::Matrix matrix = {data, dtype, rows, cols, cols};
  std::shared_ptr<const void> owner(data, [self = shared_from_this(), offset, bytes](const void*) {
    self->Return(offset, bytes);
  });
  return Fresh{matrix, RowBlock(std::move(owner), this, matrix)};
}

void RowMemory::Return(size_t offset, size_t bytes) {
  absl::MutexLock lock(&mutex_);
  auto behind = free_.lower_bound(offset);
  if (behind != free_.end() && behind->first == offset + bytes) {
    bytes += behind->second;
    behind = free_.erase(behind);
  }
  if (behind != free_.begin()) {
    const auto before = std::prev(behind);
    if (before->first + before->second == offset) {
      before->second += bytes;
      return;
    }
  }
  free_[offset] = bytes;
}

size_t RowMemory::free_bytes() const {
  absl::MutexLock lock(&mutex_);
  size_t bytes = 0;
  for (const auto& [offset, size] : free_) bytes += size;
  return bytes;
}

// Memory and wire have the same byte order on every machine ccoe runs on (weights are read in
// place, too).
static_assert(std::endian::native == std::endian::little);

// The compiler makes vector code of loops over these two: whole numbers, no branch.

uint16_t ToBF16(float value) { return NarrowBits(std::bit_cast<uint32_t>(value)); }

float FromBF16(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

void EncodeRows(kernels::ConstMatrix rows, kernels::DType wire, std::string& bytes,
                absl::Span<const int32_t> index) {
  CCOE_CHECK(rows.dtype == kernels::DType::kF32);
  CCOE_CHECK(wire == kernels::DType::kF32 || wire == kernels::DType::kBF16);
  const int64_t count = index.empty() ? rows.rows : static_cast<int64_t>(index.size());
  bytes.clear();
  bytes.reserve(static_cast<size_t>(count * rows.cols) * kernels::DTypeBytes(wire));
  if (index.empty() && rows.stride == rows.cols) {
    return AppendValues(static_cast<const float*>(rows.data), count * rows.cols, wire, bytes);
  }
  for (int64_t i = 0; i < count; ++i) {
    const int64_t row = index.empty() ? i : index[static_cast<size_t>(i)];
    AppendValues(static_cast<const float*>(rows.Row(row)), rows.cols, wire, bytes);
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
  return wire == kernels::DType::kF32 ? FromF32Bytes(bytes) : FromBF16Bytes(bytes);
}

void RoundToWire(kernels::DType wire, absl::Span<float> values) {
  if (wire != kernels::DType::kBF16) return;
  for (float& value : values) {
    const uint32_t narrow = NarrowBits(std::bit_cast<uint32_t>(value));
    value = std::bit_cast<float>(narrow << 16);
  }
}

void CopyRows(kernels::Ops& ops, kernels::ConstMatrix from, kernels::Matrix to) {
  std::vector<int32_t> rows(static_cast<size_t>(from.rows));
  std::iota(rows.begin(), rows.end(), 0);
  ops.GatherRows(from, rows, to);
}

}  // namespace ccoe::exchange
