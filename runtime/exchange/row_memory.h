// Memory of one device for rows on their way: one piece, allocated at start, out of which blocks
// are cut and to which they return.
#ifndef CCOE_RUNTIME_EXCHANGE_ROW_MEMORY_H_
#define CCOE_RUNTIME_EXCHANGE_ROW_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "kernels/device.h"
#include "kernels/view.h"
#include "runtime/exchange/row_block.h"

namespace ccoe::exchange {

// Thread-safe. Lives as long as the last block; its device outlives it.
class RowMemory : public std::enable_shared_from_this<RowMemory> {
 public:
  // `bytes` of `device`'s memory. RESOURCE_EXHAUSTED from the device.
  static absl::StatusOr<std::shared_ptr<RowMemory>> Create(kernels::Device* device, size_t bytes);
  // `piece` is memory of `device`, however it was allocated.
  static std::shared_ptr<RowMemory> Over(kernels::Device* device, kernels::Buffer piece);

  // Rows to be written and then, complete, handed on as `block`.
  struct Fresh {
    kernels::Matrix rows;
    RowBlock block;
  };
  // [rows, cols] of `dtype`, content undefined. RESOURCE_EXHAUSTED, at once, where no room is left:
  // the rows then take the way through host memory.
  absl::StatusOr<Fresh> Take(int64_t rows, int64_t cols, kernels::DType dtype)
      ABSL_LOCKS_EXCLUDED(mutex_);

  kernels::Device* device() const { return device_; }
  const void* data() const { return piece_.data(); }
  size_t size_bytes() const { return piece_.size_bytes(); }
  // Not in blocks.
  size_t free_bytes() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  RowMemory(kernels::Device* device, kernels::Buffer piece);
  void Return(size_t offset, size_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);

  kernels::Device* const device_;
  const kernels::Buffer piece_;
  mutable absl::Mutex mutex_;
  std::map<size_t, size_t> free_ ABSL_GUARDED_BY(mutex_);  // sizes by offset, never touching
};

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_ROW_MEMORY_H_
