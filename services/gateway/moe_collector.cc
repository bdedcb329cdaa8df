#include "services/gateway/moe_collector.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/base/status_macros.h"
#include "runtime/engine/moe_statistics.h"
#include "services/backbone/moe_wire.h"
#include "services/common/unary_call.h"

namespace ccoe::services {
namespace {

constexpr absl::Duration kLongestCollection = absl::Seconds(30);

absl::StatusOr<engine::MoeSnapshot> CountsOf(const v1::WorkerStatus& worker,
                                             const v1::GetMoeStatisticsRequest& request,
                                             const CallPolicy& policy, BackboneStubs& backbones) {
  CCOE_ASSIGN_OR_RETURN(const auto stub, backbones.Get(worker.address()));
  const auto answer =
      CallUnary<v1::MoeStatistics>("Backbone.GetMoeStatistics", policy,
                                   [&](grpc::ClientContext* context, v1::MoeStatistics* response) {
                                     return stub->GetMoeStatistics(context, request, response);
                                   });
  if (absl::IsUnavailable(answer.status())) backbones.Forget(worker.address());
  if (!answer.ok()) return answer.status();
  return MoeSnapshotFromProto(*answer);
}

}  // namespace

absl::StatusOr<v1::MoeStatistics> CollectMoeStatistics(const v1::GetMoeStatisticsRequest& request,
                                                       ControlStub& router,
                                                       BackboneStubs& backbones) {
  CCOE_ASSIGN_OR_RETURN(const v1::ClusterStatus cluster, router.GetStatus({}));
  const absl::Time deadline = absl::Now() + kLongestCollection;
  engine::MoeSnapshot total;
  for (const v1::WorkerStatus& worker : cluster.workers()) {
    if (worker.role() != v1::WORKER_ROLE_BACKBONE) continue;
    CallPolicy policy;
    policy.deadline = deadline - absl::Now();
    if (request.reset())
      policy.max_attempts = 1;  // counts of a lost answer must not be taken twice
    const auto counts = CountsOf(worker, request, policy, backbones);
    const absl::Status merged = counts.ok() ? engine::Merge(*counts, total) : counts.status();
    CCOE_RETURN_IF_ERROR(Annotate(merged, absl::StrCat("backbone worker ", worker.worker_id())));
  }
  if (request.has_layer() && total.layers.empty()) {
    return absl::NotFoundError(absl::StrCat("layer ", request.layer(),
                                            ": expected a mixture-of-experts layer of the model"));
  }
  return MoeSnapshotToProto(total, request);
}

}  // namespace ccoe::services
