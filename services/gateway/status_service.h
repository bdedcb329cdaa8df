// The operators' view of the cluster at the gateway's address: Control.GetStatus, answered by the
// router. Workers register at the router itself, so Register is UNIMPLEMENTED here.
#ifndef CCOE_SERVICES_GATEWAY_STATUS_SERVICE_H_
#define CCOE_SERVICES_GATEWAY_STATUS_SERVICE_H_

#include "ccoe/v1/control.grpc.pb.h"
#include "services/common/stubs.h"

namespace ccoe::services {

// Thread-safe.
class StatusService final : public v1::Control::Service {
 public:
  // `router` must outlive the service.
  explicit StatusService(ControlStub* router) : router_(router) {}

  grpc::Status GetStatus(grpc::ServerContext* context, const v1::GetStatusRequest* request,
                         v1::ClusterStatus* response) override;

 private:
  ControlStub* const router_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_GATEWAY_STATUS_SERVICE_H_
