// What FFN experts take in memory.
#ifndef CCOE_RUNTIME_PLACEMENT_EXPERT_BYTES_H_
#define CCOE_RUNTIME_PLACEMENT_EXPERT_BYTES_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/dtype.h"
#include "runtime/model/ffn_shard.h"
#include "runtime/model/model_spec.h"

namespace ccoe::placement {

// Three matrices [hidden, intermediate] of `dtype`; 0 for a layer without FFN experts.
int64_t ExpertBytes(const model::ModelSpec& spec, int32_t layer, kernels::DType dtype);

// Experts by their size, as experts of different layers may differ.
struct ShardSize {
  std::map<int64_t, int64_t> experts_of_bytes;  // bytes of one expert -> how many

  int64_t bytes() const;
  // "96 x 131072 + 16 x 65536 = 13631488 bytes".
  std::string ToString() const;
};

// `shard` lies within `spec` (FfnShard::CheckWithin).
ShardSize SizeOf(const model::ModelSpec& spec, const model::FfnShard& shard, kernels::DType dtype);

// The element type of a checkpoint's FFN experts: of its first expert's tensor where the weights
// are there, else what config.json says ("torch_dtype" or "dtype"), else f32. INVALID_ARGUMENT for
// a type that matrices cannot have.
absl::StatusOr<kernels::DType> ExpertDType(const model::ModelSpec& spec, const std::string& folder);

}  // namespace ccoe::placement

#endif  // CCOE_RUNTIME_PLACEMENT_EXPERT_BYTES_H_
