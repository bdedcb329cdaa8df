// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/row_memory.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"

namespace ccoe::exchange {
namespace {

constexpr size_t kAlignment = 512;

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

}  // namespace ccoe::exchange
