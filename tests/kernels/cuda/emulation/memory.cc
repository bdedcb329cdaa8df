// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/cuda/emulation/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "tests/kernels/cuda/emulation/poison.h"
#include "tests/kernels/cuda/emulation/report.h"

namespace ccoe::emulation {
namespace {

constexpr size_t kAlignment = 16;

}  // namespace

GuardedMemory::GuardedMemory(uintptr_t base, size_t range_bytes, size_t capacity_bytes)
    : base_(static_cast<char*>(
          mmap(reinterpret_cast<void*>(base), range_bytes, PROT_NONE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0))),
      range_(range_bytes),
      capacity_(capacity_bytes),
      page_(sysconf(_SC_PAGESIZE)) {
  CCOE_CHECK(base_ == reinterpret_cast<char*>(base));
}

void* GuardedMemory::Allocate(size_t bytes) {
  if (bytes == 0 || bytes > free_bytes()) return nullptr;
  const size_t aligned = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  const size_t pages_bytes = (aligned + page_ - 1) / page_ * page_;
  if (next_ + pages_bytes + page_ > range_) return nullptr;
  char* begin = base_ + next_;
  if (mprotect(begin, pages_bytes, PROT_READ | PROT_WRITE) != 0) return nullptr;
  next_ += pages_bytes + page_;  // a page between any two
  used_ += bytes;
  Poison(begin, pages_bytes);
  char* data = begin + pages_bytes - aligned;
  blocks_[data] = {begin, bytes, pages_bytes};
  return data;
}

bool GuardedMemory::Free(void* data) {
  const auto found = blocks_.find(static_cast<char*>(data));
  if (found == blocks_.end()) return false;
  const Block& block = found->second;
  const char* end = found->first + block.bytes;
  if (!IsPoisoned(block.begin, found->first - block.begin) ||
      !IsPoisoned(end, block.begin + block.pages_bytes - end)) {
    Fault("bytes before or behind a block of memory were written");
  }
  used_ -= block.bytes;
  madvise(block.begin, block.pages_bytes, MADV_DONTNEED);
  mprotect(block.begin, block.pages_bytes, PROT_NONE);
  blocks_.erase(found);
  return true;
}

bool GuardedMemory::Holds(const void* data, size_t bytes) const {
  const auto* begin = static_cast<const char*>(data);
  auto found = blocks_.upper_bound(begin);
  if (found == blocks_.begin()) return false;
  --found;
  const size_t offset = begin - found->first;
  return offset <= found->second.bytes && bytes <= found->second.bytes - offset;
}

bool GuardedMemory::IsOfRange(const void* data) const {
  const auto* at = static_cast<const char*>(data);
  return at >= base_ && at < base_ + range_;
}

}  // namespace ccoe::emulation
