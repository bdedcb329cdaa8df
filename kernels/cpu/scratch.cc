// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/scratch.h"

#include <sys/mman.h>

#include <cstdlib>

#include "runtime/base/check.h"

namespace ccoe::kernels {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePageBytes = size_t{2} << 20;
// From here on an array outgrows the first-level TLB when it lies in small pages.
constexpr size_t kLargeBytes = size_t{128} << 10;

void* AllocateAligned(size_t bytes) {
  const size_t alignment = bytes >= kLargeBytes ? kHugePageBytes : kAlignment;
  const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  void* data = std::aligned_alloc(alignment, rounded);
  CCOE_CHECK(data != nullptr);
  if (alignment == kHugePageBytes) madvise(data, rounded, MADV_HUGEPAGE);  // a hint
  return data;
}

}  // namespace

Scratch::~Scratch() { std::free(data_); }

float* Scratch::Floats(int64_t count) {
  if (count > capacity_) {
    std::free(data_);
    data_ = static_cast<float*>(AllocateAligned(static_cast<size_t>(count) * sizeof(float)));
    capacity_ = count;
  }
  return data_;
}

Scratch& ThreadScratch() {
  thread_local Scratch scratch;
  return scratch;
}

}  // namespace ccoe::kernels
