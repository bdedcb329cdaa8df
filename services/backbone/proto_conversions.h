// SPDX-License-Identifier: Apache-2.0
// The engine's types as protos and back: the contract of Backbone.Generate and of GetMoeStatistics,
// shared by their two ends.
#ifndef CCOE_SERVICES_BACKBONE_PROTO_CONVERSIONS_H_
#define CCOE_SERVICES_BACKBONE_PROTO_CONVERSIONS_H_

#include <memory>

#include "absl/status/statusor.h"
#include "ccoe/v1/backbone.pb.h"
#include "ccoe/v1/common.pb.h"
#include "ccoe/v1/moe.pb.h"
#include "runtime/base/ids.h"
#include "runtime/engine/moe_control.h"
#include "runtime/engine/moe_statistics.h"
#include "runtime/engine/request.h"

namespace ccoe::services {

// Unset fields take the engine's defaults. Checks nothing: engine::Validate does.
engine::SamplingParams SamplingFromProto(const v1::Sampling& sampling);

// An empty message and an empty ExpertRef mean the base.
v1::Expert ExpertToProto(const ExpertRef& expert);
ExpertRef ExpertFromProto(const v1::Expert& expert);

v1::Token TokenToProto(const engine::GeneratedToken& token);
v1::Usage UsageToProto(const engine::Usage& usage);
// Only kStop and kLength end an answer well; the others travel as a status.
v1::FinishReason FinishReasonToProto(engine::FinishReason reason);

// The query of a request, without a deadline. INVALID_ARGUMENT for a malformed
// expert or control of gates.
absl::StatusOr<engine::EngineRequest> QueryFromProto(const v1::BackboneGenerateRequest& request);

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

#endif  // CCOE_SERVICES_BACKBONE_PROTO_CONVERSIONS_H_
