// What the gates of all backbone workers chose, added up.
#ifndef CCOE_SERVICES_GATEWAY_MOE_COLLECTOR_H_
#define CCOE_SERVICES_GATEWAY_MOE_COLLECTOR_H_

#include "absl/status/statusor.h"
#include "ccoe/v1/moe.pb.h"
#include "services/common/stubs.h"
#include "services/gateway/backbone_stubs.h"

namespace ccoe::services {

// Asks the router which backbone workers there are, then each of these, for at most half a minute.
// Errors name the worker; INVALID_ARGUMENT: counts that do not fit those of the others; NOT_FOUND:
// a layer that has no counts.
absl::StatusOr<v1::MoeStatistics> CollectMoeStatistics(const v1::GetMoeStatisticsRequest& request,
                                                       ControlStub& router,
                                                       BackboneStubs& backbones);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_GATEWAY_MOE_COLLECTOR_H_
