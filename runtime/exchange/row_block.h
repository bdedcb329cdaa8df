// SPDX-License-Identifier: Apache-2.0
// Rows on their way between an engine, a link and a runner, in host memory or in a device's, and
// their bytes on a wire. The memory of one device for them is one piece, allocated at start, out of
// which blocks are cut and to which they return.
#ifndef CCOE_RUNTIME_EXCHANGE_ROW_BLOCK_H_
#define CCOE_RUNTIME_EXCHANGE_ROW_BLOCK_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "kernels/device.h"
#include "kernels/dtype.h"
#include "kernels/ops.h"
#include "kernels/view.h"

namespace ccoe::exchange {

class RowMemory;

// A value: copies share the memory, which nobody writes to any more. Rows of a device are complete
// when a block is handed over (whoever made them has waited for the ops that did), so any stream
// may read them at once; whoever reads them keeps a copy of the block until its ops are done, since
// the last copy gives the memory back.
class RowBlock {
 public:
  RowBlock() = default;  // no rows

  // Host rows, f32 of any stride, borrowed: for calls that read them before they return.
  RowBlock(kernels::ConstMatrix host) : view_(host) {}  // NOLINT: given as rows
  RowBlock(kernels::Matrix host) : view_(host) {}       // NOLINT

  // Host values, f32, owned: row after row, of a width that the header beside them says.
  RowBlock(std::vector<float> values) {  // NOLINT
    auto owned = std::make_shared<const std::vector<float>>(std::move(values));
    view_ = kernels::F32Matrix(owned->data(), 1, static_cast<int64_t>(owned->size()));
    owner_ = std::move(owned);
  }

  // Rows in `memory`'s device, f32 or bf16, contiguous. `owner` keeps them and `memory` alive.
  RowBlock(std::shared_ptr<const void> owner, RowMemory* memory, kernels::ConstMatrix rows)
      : view_(rows), memory_(memory), owner_(std::move(owner)) {}

  bool empty() const { return view_.empty() || values() == 0; }
  bool on_device() const { return memory_ != nullptr; }
  RowMemory* memory() const { return memory_; }  // null: host memory
  kernels::DType dtype() const { return view_.dtype; }
  int64_t values() const { return view_.rows * view_.cols; }
  size_t bytes() const { return static_cast<size_t>(values()) * kernels::DTypeBytes(view_.dtype); }

  // As they were given; of owned host values one row.
  kernels::ConstMatrix view() const { return view_; }
  // Rows of `cols` values each; not of borrowed rows.
  kernels::ConstMatrix Rows(int64_t cols) const {
    return {view_.data, view_.dtype, cols == 0 ? 0 : values() / cols, cols, cols};
  }
  // Owned host values; not of a device.
  absl::Span<const float> host() const {
    return {static_cast<const float*>(view_.data), static_cast<size_t>(values())};
  }

 private:
  kernels::ConstMatrix view_;
  RowMemory* memory_ = nullptr;
  std::shared_ptr<const void> owner_;
};

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

// The bf16 nearest to `value`, ties to even; NaN stays NaN.
uint16_t ToBF16(float value);
float FromBF16(uint16_t bits);

// Sets `bytes` to the wire form of `rows` (f32, any stride): of all of them, or of those that
// `index` names, in its order. `wire` is kF32 or kBF16.
void EncodeRows(kernels::ConstMatrix rows, kernels::DType wire, std::string& bytes,
                absl::Span<const int32_t> index = {});

// [rows, cols] f32 from wire bytes. INVALID_ARGUMENT where the byte count is not rows * cols
// elements' worth or `wire` is neither kF32 nor kBF16.
absl::StatusOr<std::vector<float>> DecodeRows(absl::string_view bytes, int64_t rows, int64_t cols,
                                              kernels::DType wire);

// Rounds `values` as a trip over the wire would: what keeps a link without a wire equal, bit for
// bit, to one with.
void RoundToWire(kernels::DType wire, absl::Span<float> values);

// to = from, converting where dtypes differ, as EncodeRows rounds. Both on the device of `ops`,
// which takes it up in its order and does not wait.
void CopyRows(kernels::Ops& ops, kernels::ConstMatrix from, kernels::Matrix to);

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_ROW_BLOCK_H_
