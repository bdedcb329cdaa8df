// What a cluster's workers must have in common.
#ifndef CCOE_SERVICES_COMMON_MODEL_IDENTITY_H_
#define CCOE_SERVICES_COMMON_MODEL_IDENTITY_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ccoe/v1/control.pb.h"
#include "runtime/model/model_spec.h"
#include "services/common/role_environment.h"

namespace ccoe::services {

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

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_MODEL_IDENTITY_H_
