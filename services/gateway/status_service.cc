#include "services/gateway/status_service.h"

#include <utility>

#include "services/common/status_to_grpc.h"
#include "services/gateway/moe_collector.h"

namespace ccoe::services {

grpc::Status StatusService::GetStatus(grpc::ServerContext* context,
                                      const v1::GetStatusRequest* request,
                                      v1::ClusterStatus* response) {
  absl::StatusOr<v1::ClusterStatus> status = router_->GetStatus(*request);
  if (!status.ok()) return ToGrpc(status.status());
  *response = *std::move(status);
  return grpc::Status::OK;
}

grpc::Status StatusService::GetMoeStatistics(grpc::ServerContext* context,
                                             const v1::GetMoeStatisticsRequest* request,
                                             v1::MoeStatistics* response) {
  absl::StatusOr<v1::MoeStatistics> statistics =
      CollectMoeStatistics(*request, *router_, *backbones_);
  if (statistics.ok()) *response = *std::move(statistics);
  return ToGrpc(statistics.status(), context);
}

}  // namespace ccoe::services
