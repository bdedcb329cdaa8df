#include "kernels/cpu/scratch.h"

#include <cstdlib>

#include "runtime/base/check.h"

namespace ccoe::kernels {
namespace {

constexpr size_t kAlignment = 64;

}  // namespace

Scratch::~Scratch() { std::free(data_); }

float* Scratch::Floats(int64_t count) {
  if (count > capacity_) {
    std::free(data_);
    const size_t bytes =
        (static_cast<size_t>(count) * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment;
    data_ = static_cast<float*>(std::aligned_alloc(kAlignment, bytes));
    CCOE_CHECK(data_ != nullptr);
    capacity_ = count;
  }
  return data_;
}

Scratch& ThreadScratch() {
  thread_local Scratch scratch;
  return scratch;
}

}  // namespace ccoe::kernels
