#include "services/backbone/backbone_service.h"

#include <chrono>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/backbone/moe_wire.h"
#include "services/backbone/token_stream.h"
#include "services/backbone/wire.h"
#include "services/common/status_to_grpc.h"

namespace ccoe::services {
namespace {

// A call that is answered by its status alone.
class Refusal final : public grpc::ServerWriteReactor<v1::BackboneGenerateResponse> {
 public:
  explicit Refusal(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

absl::Time DeadlineOf(const grpc::CallbackServerContext& context) {
  const std::chrono::system_clock::time_point deadline = context.deadline();
  return deadline == std::chrono::system_clock::time_point::max() ? absl::InfiniteFuture()
                                                                  : absl::FromChrono(deadline);
}

}  // namespace

grpc::ServerWriteReactor<v1::BackboneGenerateResponse>* BackboneService::Generate(
    grpc::CallbackServerContext* context, const v1::BackboneGenerateRequest* request) {
  absl::StatusOr<engine::EngineRequest> query = QueryFromProto(*request);
  if (!query.ok()) return new Refusal(ToGrpc(query.status(), context));
  query->deadline = DeadlineOf(*context);
  return TokenStream::Start(engine_, context, *std::move(query), options_.max_unsent_tokens);
}

grpc::ServerUnaryReactor* BackboneService::GetMoeStatistics(
    grpc::CallbackServerContext* context, const v1::GetMoeStatisticsRequest* request,
    v1::MoeStatistics* response) {
  if (moe_ != nullptr) {
    const engine::MoeSnapshot snapshot =
        request->reset() ? moe_->TakeAndReset() : moe_->Snapshot(request->co_activation());
    *response = MoeSnapshotToProto(snapshot, *request);
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace ccoe::services
