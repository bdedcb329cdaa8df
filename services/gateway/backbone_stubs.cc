// SPDX-License-Identifier: Apache-2.0
#include "services/gateway/backbone_stubs.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/base/status_macros.h"
#include "runtime/engine/moe_statistics.h"
#include "services/backbone/proto_conversions.h"
#include "services/common/channel_factory.h"
#include "services/common/stubs.h"

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

absl::StatusOr<std::shared_ptr<v1::Backbone::StubInterface>> BackboneStubs::Get(
    const std::string& address) {
  absl::MutexLock lock(&mutex_);
  if (auto it = peers_.find(address); it != peers_.end()) return it->second.stub;
  CCOE_ASSIGN_OR_RETURN(std::shared_ptr<grpc::Channel> channel, channels_->Connect(address));
  std::shared_ptr<v1::Backbone::StubInterface> stub = v1::Backbone::NewStub(channel);
  peers_[address] = {std::move(channel), stub};
  return stub;
}

void BackboneStubs::Forget(const std::string& address) {
  absl::MutexLock lock(&mutex_);
  const auto it = peers_.find(address);
  if (it == peers_.end()) return;
  // Channels within the process know no state, and cost nothing to make.
  const bool stands = !IsInProcess(address) &&
                      it->second.channel->GetState(/*try_to_connect=*/false) == GRPC_CHANNEL_READY;
  if (stands) return;
  peers_.erase(it);
}

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
    CCOE_RETURN_IF_ERROR_IN(merged, absl::StrCat("backbone worker ", worker.worker_id()));
  }
  if (request.has_layer() && total.layers.empty()) {
    return absl::NotFoundError(absl::StrCat("layer ", request.layer(),
                                            ": expected a mixture-of-experts layer of the model"));
  }
  return MoeSnapshotToProto(total, request);
}

}  // namespace ccoe::services
