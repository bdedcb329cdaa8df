#include "services/common/model_identity.h"

#include "absl/strings/str_cat.h"
#include "runtime/base/sha256.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/weights.h"
#include "runtime/model/weights_digest.h"
#include "services/common/compute.h"

namespace ccoe::services {

std::string ModelIdentity(const model::ModelSpec& spec) {
  Sha256 digest;
  digest.Update(model::FingerprintText(spec));
  return digest.Hex();
}

absl::StatusOr<v1::WeightsIdentity> IdentifyWeights(const std::string& folder,
                                                    const RoleEnvironment& environment) {
  environment.Progress(absl::StrCat("digest of the weights in ", folder));
  CCOE_ASSIGN_OR_RETURN(const auto weights, model::Weights::Open(folder));
  CCOE_ASSIGN_OR_RETURN(const model::WeightsDigest digest, model::DigestWeights(*weights));
  v1::WeightsIdentity identity;
  identity.set_source(digest.sha256);
  const model::WeightTarget target = environment.compute->weights();
  if (!target.uploads()) {
    identity.set_served(digest.sha256);
    return identity;
  }
  Sha256 served;
  served.Update(
      absl::StrCat(digest.sha256, " as ",
                   target.matrices.has_value() ? kernels::DTypeName(*target.matrices) : "stored"));
  identity.set_served(served.Hex());
  return identity;
}

}  // namespace ccoe::services
