// How large a host of units is, and what follows from it for a memory plan.
#ifndef CCOE_RUNTIME_EXPERTS_UNIT_HOST_OPTIONS_H_
#define CCOE_RUNTIME_EXPERTS_UNIT_HOST_OPTIONS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "kernels/dtype.h"
#include "kernels/op_shapes.h"
#include "runtime/base/clock.h"
#include "runtime/experts/pass_memory.h"
#include "runtime/experts/unit_queue.h"
#include "runtime/model/kv_cache.h"
#include "runtime/model/model_spec.h"

namespace ccoe::experts {

struct UnitHostOptions {
  // Which units it may be given; memory for passes is taken for these alone. FFN experts take none
  // over a model without MoE layers.
  bool layer_experts = true;
  bool ffn_experts = true;

  int64_t kv_tokens = 65536;  // KV capacity of each layer expert, in tokens
  int64_t page_tokens = 32;
  kernels::DType kv_dtype = kernels::DType::kF32;  // of the KV cache; what the ops' device takes

  // Rows of one pass of a layer expert, (row, expert) pairs of one of FFN experts; a larger swap
  // runs alone, piece by piece. Their device memory is taken at creation.
  int64_t max_batch_rows = 2048;
  int64_t max_batch_pairs = 2048;

  // Over all peers; one more gets kQueueFull.
  int max_waiting_swaps = 1024;
  int64_t max_waiting_bytes = int64_t{512} << 20;  // rows and lists; unless nothing else waits

  std::string numerics;          // see exchange::LinkPeer
  const Clock* clock = nullptr;  // outlives the host; null: the system's
};

// The ops' calls of a host with these options.
kernels::OpShapes ShapesOf(const model::ModelSpec& spec, const UnitHostOptions& options);
// What PassMemory::Create is given, and the cache of a layer expert with these layers.
PassMemory::Limits PassLimitsOf(const UnitHostOptions& options);
model::KvStorageOptions KvOptionsOf(const UnitHostOptions& options, model::LayerRange layers);
UnitQueue::Options QueueOptionsOf(const UnitHostOptions& options);

// INVALID_ARGUMENT names the option that is below 1; no kind of unit at all.
absl::Status Check(const UnitHostOptions& options);

}  // namespace ccoe::experts

#endif  // CCOE_RUNTIME_EXPERTS_UNIT_HOST_OPTIONS_H_
