// SPDX-License-Identifier: Apache-2.0
// What a model will take of a device's memory, before it is loaded, and the largest calls of ops
// that passes over it make.
#ifndef CCOE_RUNTIME_MODEL_MEMORY_PLAN_H_
#define CCOE_RUNTIME_MODEL_MEMORY_PLAN_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "kernels/device.h"
#include "kernels/op_shapes.h"
#include "kernels/ops.h"
#include "runtime/model/model_spec.h"

namespace ccoe::model {

// A device without memory that counts what it is asked for: weights bound for it (WeightTarget with
// fill off), KV storage and scratch made on it tell exactly what the same will take. Thread-safe.
class CountingDevice final : public kernels::Device {
 public:
  std::string Name() const override { return "counting"; }
  bool ReadsHostMemory() const override { return false; }
  absl::StatusOr<kernels::Buffer> Allocate(size_t size_bytes) override;
  absl::Status CopyFromHost(const void*, void*, size_t) override;
  absl::Status CopyToHost(const void*, void*, size_t) override;

  // Asked for so far, given back or not; each buffer rounded up as a device would.
  int64_t counted_bytes() const { return counted_.load(); }

 private:
  void Free(void*, size_t) override {}

  std::atomic<int64_t> counted_ = 0;
};

// A sum with its parts. A value.
class MemoryPlan {
 public:
  void Add(std::string what, int64_t bytes) { parts_.emplace_back(std::move(what), bytes); }

  int64_t total_bytes() const;
  // "weights 13.48 GB + KV cache of 65536 tokens 8.59 GB + buffers 0.31 GB = 22.38 GB".
  std::string ToString() const;
  // RESOURCE_EXHAUSTED with the sum and what the device has left.
  absl::Status CheckFits(kernels::Device& device) const;

 private:
  std::vector<std::pair<std::string, int64_t>> parts_;
};

// Ops over a device that only counts: what is made over them tells what memory it takes, and no op
// may be called (they abort). `device` outlives them.
std::unique_ptr<kernels::Ops> MakeDryRunOps(CountingDevice* device);

// Of passes, all at most.
struct PassLimits {
  int64_t rows = 0;       // of a pass
  int64_t sequences = 0;  // of a pass; those with one row each may be captured
  int64_t head_rows = 0;  // of one call of the LM head; 0: no head
  int64_t tokens = 0;     // that a KV cache holds of one sequence
  int64_t page_tokens = 1;
};

// The largest calls of passes over any layers.
kernels::OpShapes ShapesOfPasses(const ModelSpec& spec, const PassLimits& limits);

// Of RunFfnExperts over any MoE layer, for `pairs` (row, expert) pairs.
kernels::OpShapes ShapesOfExperts(const ModelSpec& spec, int64_t pairs);

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_MEMORY_PLAN_H_
