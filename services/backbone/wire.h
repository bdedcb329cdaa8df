// The engine's types as protos and back: the contract of Backbone.Generate, shared by its two ends.
#ifndef CCOE_SERVICES_BACKBONE_WIRE_H_
#define CCOE_SERVICES_BACKBONE_WIRE_H_

#include "absl/status/statusor.h"
#include "ccoe/v1/backbone.pb.h"
#include "ccoe/v1/common.pb.h"
#include "runtime/base/ids.h"
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

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_BACKBONE_WIRE_H_
