// Control and statistics of a model's own gates as protos and back.
#ifndef CCOE_SERVICES_BACKBONE_MOE_WIRE_H_
#define CCOE_SERVICES_BACKBONE_MOE_WIRE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "ccoe/v1/moe.pb.h"
#include "runtime/engine/moe_control.h"
#include "runtime/engine/moe_statistics.h"

namespace ccoe::services {

// Null for a message that asks for nothing. INVALID_ARGUMENT where a layer stands in it twice; the
// rest is engine::CheckMoeControl's to check.
absl::StatusOr<std::shared_ptr<const engine::MoeControl>> MoeControlFromProto(
    const v1::MoeControl& proto);
v1::MoeControl MoeControlToProto(const engine::MoeControl& control);

// The part of `snapshot` that `request` asks for.
v1::MoeStatistics MoeSnapshotToProto(const engine::MoeSnapshot& snapshot,
                                     const v1::GetMoeStatisticsRequest& request);

// INVALID_ARGUMENT where layers do not rise or a layer's counts contradict each other.
absl::StatusOr<engine::MoeSnapshot> MoeSnapshotFromProto(const v1::MoeStatistics& proto);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_BACKBONE_MOE_WIRE_H_
