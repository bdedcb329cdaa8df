// SPDX-License-Identifier: Apache-2.0
// Memory whose bounds are pages that nobody may touch.
#ifndef CCOE_TESTS_KERNELS_CUDA_EMULATION_MEMORY_H_
#define CCOE_TESTS_KERNELS_CUDA_EMULATION_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <map>

namespace ccoe::emulation {

// Blocks of memory in one range of addresses, none of which is used twice: what is read or written
// before a block's page, behind its end (to 16 bytes) or after Free crashes. New memory is
// poisoned. Not thread-safe.
class GuardedMemory {
 public:
  // Reserves `range_bytes` of addresses at `base`.
  GuardedMemory(uintptr_t base, size_t range_bytes, size_t capacity_bytes);

  // Aligned to 16 bytes, less than any real allocator's promise. Null where the capacity is used
  // up.
  void* Allocate(size_t bytes);
  // False where no block begins at `data`. Ends the process where bytes about the block were
  // written.
  bool Free(void* data);

  // Whether [data, data + bytes) lies in one living block.
  bool Holds(const void* data, size_t bytes) const;
  // Whether the address is of this range, living or not.
  bool IsOfRange(const void* data) const;
  size_t free_bytes() const { return capacity_ - used_; }
  size_t capacity_bytes() const { return capacity_; }

 private:
  struct Block {
    char* begin;   // of its pages
    size_t bytes;  // as asked for
    size_t pages_bytes;
  };

  char* const base_;
  const size_t range_, capacity_, page_;
  size_t next_ = 0;  // offset of the next block's pages
  size_t used_ = 0;
  std::map<const char*, Block> blocks_;  // by the address given out
};

}  // namespace ccoe::emulation

#endif  // CCOE_TESTS_KERNELS_CUDA_EMULATION_MEMORY_H_
