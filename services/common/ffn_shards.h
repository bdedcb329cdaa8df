// Sets of FFN experts on the wire.
#ifndef CCOE_SERVICES_COMMON_FFN_SHARDS_H_
#define CCOE_SERVICES_COMMON_FFN_SHARDS_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "ccoe/v1/common.pb.h"
#include "runtime/model/ffn_shard.h"

namespace ccoe::services {

// Bound on what one shard may name, in (layer, expert) pairs.
inline constexpr int64_t kMaxShardExperts = 1 << 20;

v1::FfnShard FfnShardToProto(const model::FfnShard& shard);

// INVALID_ARGUMENT: more than kMaxShardExperts, a negative number, a layer that stands twice.
absl::StatusOr<model::FfnShard> FfnShardFromProto(const v1::FfnShard& proto);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_FFN_SHARDS_H_
