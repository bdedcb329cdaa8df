// SPDX-License-Identifier: Apache-2.0
// What a worker's reports say of the protocol and the model it serves: what a cluster's workers
// must have in common, and which FFN experts each has.
#ifndef CCOE_SERVICES_COMMON_MODEL_REPORT_H_
#define CCOE_SERVICES_COMMON_MODEL_REPORT_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ccoe/v1/common.pb.h"
#include "ccoe/v1/control.pb.h"
#include "runtime/model/ffn_shard.h"
#include "runtime/model/model_spec.h"
#include "services/common/role_environment.h"

namespace ccoe::services {

// Rises when processes of two builds could misunderstand each other; adding a proto field does not
// do that. Peers of another version are refused.
inline constexpr int32_t kProtocolVersion = 2;

// A digest of the model's maths as config.json describes it, in hexadecimal. Workers of another one
// are refused by the router and by each other. It says nothing of the weights, so that an expert
// worker needs none of the base's: whether an expert's base has the same weights as the backbone
// worker's is told by the bundle's base fingerprint.
std::string ModelIdentity(const model::ModelSpec& spec);

// Of digests of weights; an empty one is not known.
inline bool MayBeSameWeights(absl::string_view a, absl::string_view b) {
  return a.empty() || b.empty() || a == b;
}

// Digests of the tensors in `folder`, as they came and as `compute` serves them. Reads all of them
// once and remembers (runtime/model/weights_digest.h); says so as progress.
absl::StatusOr<v1::WeightsIdentity> IdentifyWeights(const std::string& folder,
                                                    const RoleEnvironment& environment);

// Sets of FFN experts on the wire. Bound on what one may name, in (layer, expert) pairs.
inline constexpr int64_t kMaxShardExperts = 1 << 20;

v1::FfnShard FfnShardToProto(const model::FfnShard& shard);

// INVALID_ARGUMENT: more than kMaxShardExperts, a negative number, a layer that stands twice.
absl::StatusOr<model::FfnShard> FfnShardFromProto(const v1::FfnShard& proto);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_MODEL_REPORT_H_
