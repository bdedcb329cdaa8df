#include "services/backbone/moe_wire.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"

namespace ccoe::services {
namespace {

// `Part` is MoeControl or LayerMoeControl: the fields have the same names.
template <typename Part>
engine::LayerMoeControl PartFromProto(const Part& proto) {
  engine::LayerMoeControl part;
  part.active_experts = proto.active_experts();
  part.masked.assign(proto.masked_experts().begin(), proto.masked_experts().end());
  part.forced.assign(proto.forced_experts().begin(), proto.forced_experts().end());
  return part;
}

template <typename Part>
void PartToProto(const engine::LayerMoeControl& part, Part& proto) {
  proto.set_active_experts(part.active_experts);
  proto.mutable_masked_experts()->Add(part.masked.begin(), part.masked.end());
  proto.mutable_forced_experts()->Add(part.forced.begin(), part.forced.end());
}

absl::StatusOr<engine::LayerMoeCounts> CountsFromProto(const v1::MoeLayerStatistics& proto) {
  engine::LayerMoeCounts counts;
  counts.layer = proto.layer();
  counts.rows = proto.rows();
  counts.tokens.assign(proto.tokens().begin(), proto.tokens().end());
  counts.pairs.assign(proto.co_activation().begin(), proto.co_activation().end());
  const int64_t pairs = engine::PairCount(counts.experts());
  if (!counts.pairs.empty() && static_cast<int64_t>(counts.pairs.size()) != pairs) {
    return absl::InvalidArgumentError(absl::StrCat("expected co-activation counts of ", pairs,
                                                   " pairs of ", counts.experts(),
                                                   " experts, found ", counts.pairs.size()));
  }
  const auto most = std::max_element(counts.tokens.begin(), counts.tokens.end());
  if (most != counts.tokens.end() && *most > counts.rows) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected at most ", counts.rows, " tokens (the rows) for expert ",
                     most - counts.tokens.begin(), ", found ", *most));
  }
  return counts;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const engine::MoeControl>> MoeControlFromProto(
    const v1::MoeControl& proto) {
  engine::MoeControl control;
  control.all_layers = PartFromProto(proto);
  for (const v1::LayerMoeControl& layer : proto.layers()) {
    if (!control.layers.emplace(layer.layer(), PartFromProto(layer)).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("moe: layer ", layer.layer(), " stands there twice"));
    }
  }
  if (control.empty()) return nullptr;
  return std::make_shared<const engine::MoeControl>(std::move(control));
}

v1::MoeControl MoeControlToProto(const engine::MoeControl& control) {
  v1::MoeControl proto;
  PartToProto(control.all_layers, proto);
  for (const auto& [layer, part] : control.layers) {
    v1::LayerMoeControl* layer_proto = proto.add_layers();
    layer_proto->set_layer(layer);
    PartToProto(part, *layer_proto);
  }
  return proto;
}

v1::MoeStatistics MoeSnapshotToProto(const engine::MoeSnapshot& snapshot,
                                     const v1::GetMoeStatisticsRequest& request) {
  v1::MoeStatistics proto;
  for (const engine::LayerMoeCounts& counts : snapshot.layers) {
    if (request.has_layer() && request.layer() != counts.layer) continue;
    v1::MoeLayerStatistics* layer = proto.add_layers();
    layer->set_layer(counts.layer);
    layer->set_rows(counts.rows);
    layer->mutable_tokens()->Add(counts.tokens.begin(), counts.tokens.end());
    if (!request.co_activation()) continue;
    layer->mutable_co_activation()->Add(counts.pairs.begin(), counts.pairs.end());
  }
  return proto;
}

absl::StatusOr<engine::MoeSnapshot> MoeSnapshotFromProto(const v1::MoeStatistics& proto) {
  engine::MoeSnapshot snapshot;
  for (const v1::MoeLayerStatistics& layer : proto.layers()) {
    const std::string where = absl::StrCat("MoE statistics of layer ", layer.layer());
    if (!snapshot.layers.empty() && layer.layer() <= snapshot.layers.back().layer) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": expected one after layer ", snapshot.layers.back().layer));
    }
    absl::StatusOr<engine::LayerMoeCounts> counts = CountsFromProto(layer);
    if (!counts.ok()) return Annotate(counts.status(), where);
    snapshot.layers.push_back(*std::move(counts));
  }
  return snapshot;
}

}  // namespace ccoe::services
