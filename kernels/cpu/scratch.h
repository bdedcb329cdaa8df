// SPDX-License-Identifier: Apache-2.0
// Reusable aligned memory for kernels.
#ifndef CCOE_KERNELS_CPU_SCRATCH_H_
#define CCOE_KERNELS_CPU_SCRATCH_H_

#include <cstddef>
#include <cstdint>

namespace ccoe::kernels {

// A growing array of floats, aligned to 64 bytes. What it held is lost when it grows. Not
// thread-safe.
class Scratch {
 public:
  Scratch() = default;
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // At least `count` floats, uninitialised; valid until the next call. Aborts where memory runs
  // out.
  float* Floats(int64_t count);

 private:
  float* data_ = nullptr;
  int64_t capacity_ = 0;
};

// The calling thread's own, for use within one task of a parallel loop; freed with the thread.
Scratch& ThreadScratch();

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CPU_SCRATCH_H_
