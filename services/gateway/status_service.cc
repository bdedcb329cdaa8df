#include "services/gateway/status_service.h"

#include <utility>

#include "services/common/status_to_grpc.h"

namespace ccoe::services {

grpc::Status StatusService::GetStatus(grpc::ServerContext* context,
                                      const v1::GetStatusRequest* request,
                                      v1::ClusterStatus* response) {
  absl::StatusOr<v1::ClusterStatus> status = router_->GetStatus(*request);
  if (!status.ok()) return ToGrpc(status.status());
  *response = *std::move(status);
  return grpc::Status::OK;
}

}  // namespace ccoe::services
