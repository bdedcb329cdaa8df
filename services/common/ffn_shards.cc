#include "services/common/ffn_shards.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace ccoe::services {

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
