// SPDX-License-Identifier: Apache-2.0
#include "services/common/model_report.h"

#include "absl/status/status.h"
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

v1::FfnShard FfnShardToProto(const model::FfnShard& shard) {
  v1::FfnShard proto;
  for (const auto& [layer, experts] : shard.layers()) {
    v1::FfnLayer* entry = proto.add_layers();
    entry->set_layer(layer);
    entry->mutable_experts()->Add(experts.begin(), experts.end());
  }
  return proto;
}

absl::StatusOr<model::FfnShard> FfnShardFromProto(const v1::FfnShard& proto) {
  int64_t experts = 0;
  for (const v1::FfnLayer& layer : proto.layers()) experts += layer.experts_size();
  if (experts > kMaxShardExperts) {
    return absl::InvalidArgumentError(
        absl::StrCat("FFN experts: expected at most ", kMaxShardExperts, ", found ", experts));
  }
  model::FfnShard shard;
  for (const v1::FfnLayer& layer : proto.layers()) {
    if (layer.layer() < 0 || shard.layers().count(layer.layer()) > 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("FFN experts: layer ", layer.layer(),
                       layer.layer() < 0 ? ": expected 0 or more" : " stands twice"));
    }
    for (const int32_t expert : layer.experts()) {
      if (expert < 0) {
        return absl::InvalidArgumentError(absl::StrCat(
            "FFN experts: layer ", layer.layer(), ", expert ", expert, ": expected 0 or more"));
      }
      shard.Add(layer.layer(), expert);
    }
  }
  return shard;
}

}  // namespace ccoe::services
