// The operators' view of the cluster at the gateway's address: Control.GetStatus, answered by the
// router, and Control.GetMoeStatistics, by all backbone workers. Workers register at the router
// itself, so Register is UNIMPLEMENTED here.
#ifndef CCOE_SERVICES_GATEWAY_STATUS_SERVICE_H_
#define CCOE_SERVICES_GATEWAY_STATUS_SERVICE_H_

#include "ccoe/v1/control.grpc.pb.h"
#include "services/common/stubs.h"
#include "services/gateway/backbone_stubs.h"

namespace ccoe::services {

// Thread-safe.
class StatusService final : public v1::Control::Service {
 public:
  // Both must outlive the service.
  StatusService(ControlStub* router, BackboneStubs* backbones)
      : router_(router), backbones_(backbones) {}

  grpc::Status GetStatus(grpc::ServerContext* context, const v1::GetStatusRequest* request,
                         v1::ClusterStatus* response) override;
  grpc::Status GetMoeStatistics(grpc::ServerContext* context,
                                const v1::GetMoeStatisticsRequest* request,
                                v1::MoeStatistics* response) override;

 private:
  ControlStub* const router_;
  BackboneStubs* const backbones_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_GATEWAY_STATUS_SERVICE_H_
