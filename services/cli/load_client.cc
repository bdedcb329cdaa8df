#include "services/cli/load_client.h"

#include <atomic>
#include <chrono>
#include <utility>

#include "absl/time/clock.h"
#include "grpcpp/grpcpp.h"
#include "runtime/base/status_macros.h"
#include "services/common/channel_factory.h"
#include "services/common/status_to_grpc.h"

namespace ccoe::cli {

absl::Duration MonotonicNow() {
  return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

// Owns itself from Start to OnDone.
class LoadClient::Call final : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  Call(LoadClient* client, v1::GenerateRequest request, std::function<void(ServedRequest)> done)
      : client_(client), request_(std::move(request)), done_(std::move(done)) {}

  void Start() {
    context_.set_deadline(absl::ToChronoTime(absl::Now() + client_->timeout_));
    sent_ = MonotonicNow();
    client_->stub_->async()->Generate(&context_, &request_, this);
    StartRead(&response_);
    StartCall();
  }

  void Cancel() {
    cancelled_ = true;
    context_.TryCancel();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (response_.has_started()) {
      served_.expert = DecisionName(response_.started().decision());
      served_.input_tokens = response_.started().prompt_tokens();
    } else if (response_.delta().tokens_size() > 0) {
      served_.arrivals.push_back({MonotonicNow() - sent_, response_.delta().tokens_size()});
      for (const v1::Token& token : response_.delta().tokens())
        served_.token_ids.push_back(token.id());
    } else if (response_.has_finished()) {
      // The last word: an answer may have moved to another expert since it started.
      served_.expert = DecisionName(response_.finished().decision());
    }
    StartRead(&response_);
  }

  void OnDone(const grpc::Status& status) override {
    served_.status = services::FromGrpc(status, context_);
    served_.total = MonotonicNow() - sent_;
    served_.cancelled = cancelled_ && !status.ok();
    done_(std::move(served_));
    client_->Remove(this);
    delete this;
  }

 private:
  LoadClient* const client_;
  const v1::GenerateRequest request_;
  const std::function<void(ServedRequest)> done_;
  grpc::ClientContext context_;
  absl::Duration sent_;
  v1::GenerateResponse response_;
  ServedRequest served_;
  std::atomic<bool> cancelled_{false};
};

absl::StatusOr<std::unique_ptr<LoadClient>> LoadClient::Create(const ClientFlags& flags) {
  CCOE_ASSIGN_OR_RETURN(const auto channel,
                        services::ChannelFactory(nullptr).Connect(flags.server));
  return std::unique_ptr<LoadClient>(
      new LoadClient(absl::Seconds(flags.timeout_seconds), v1::Inference::NewStub(channel)));
}

LoadClient::~LoadClient() {
  CancelAll();
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(
      +[](absl::flat_hash_set<Call*>* calls) { return calls->empty(); }, &calls_));
}

void LoadClient::Send(v1::GenerateRequest request, std::function<void(ServedRequest)> done) {
  auto* call = new Call(this, std::move(request), std::move(done));
  {
    absl::MutexLock lock(&mutex_);
    calls_.insert(call);
    if (cancelled_) call->Cancel();
  }
  call->Start();
}

void LoadClient::CancelAll() {
  absl::MutexLock lock(&mutex_);
  cancelled_ = true;
  for (Call* call : calls_) call->Cancel();
}

void LoadClient::Remove(Call* call) {
  absl::MutexLock lock(&mutex_);
  calls_.erase(call);
}

}  // namespace ccoe::cli
