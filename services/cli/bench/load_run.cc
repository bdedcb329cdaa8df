// SPDX-License-Identifier: Apache-2.0
#include "services/cli/bench/load_run.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <utility>

#include "absl/time/clock.h"
#include "grpcpp/grpcpp.h"
#include "runtime/base/status_macros.h"
#include "services/common/channel_factory.h"
#include "services/common/status_to_grpc.h"

namespace ccoe::cli {
namespace {

constexpr absl::Duration kTick = absl::Milliseconds(100);

}  // namespace

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

LoadRunResult LoadRun::Run() {
  began_ = MonotonicNow();
  Arrivals arrivals(options_.arrivals);
  for (int64_t index = 0; options_.requests == 0 || index < options_.requests; ++index) {
    const absl::Duration due = arrivals.Next();
    if (!WaitToSend(due)) break;
    Send(index, due);
  }
  Drain();
  result_.elapsed = Elapsed();
  return result_;
}

void LoadRun::Stop() {
  absl::MutexLock lock(&mutex_);
  stopped_ = true;
}

bool LoadRun::WaitToSend(absl::Duration due) {
  absl::Duration wait = absl::ZeroDuration();  // a look at what ended costs little
  while (true) {
    if (!Collect(wait)) return false;
    const absl::Duration now = Elapsed();
    if (now >= options_.duration) return false;
    const bool has_place = HasPlace(now);
    if (has_place && now >= due) return true;
    // The next event: this request's time, a place of a refused one, or the end.
    absl::Duration next = options_.duration;
    if (has_place) {
      next = std::min(next, due);
    } else if (!resting_.empty()) {
      next = std::min(next, resting_.top());
    }
    wait = std::min(kTick, next - now);
  }
}

bool LoadRun::HasPlace(absl::Duration now) {
  while (!resting_.empty() && resting_.top() <= now) resting_.pop();
  const int64_t limit = options_.max_concurrency > 0 ? options_.max_concurrency : kMostAtOnce;
  return in_flight_ + static_cast<int64_t>(resting_.size()) < limit;
}

void LoadRun::Send(int64_t index, absl::Duration due) {
  v1::GenerateRequest request = workload_->Make(index);
  const absl::Duration sent = Elapsed();
  if (std::isfinite(options_.arrivals.rate))
    result_.latest_send = std::max(result_.latest_send, sent - due);
  ++result_.sent;
  result_.peak_concurrency = std::max(result_.peak_concurrency, ++in_flight_);
  client_->Send(std::move(request), [this, index, sent](ServedRequest served) {
    served.index = index;
    served.sent = sent;
    absl::MutexLock lock(&mutex_);
    ended_.push_back(std::move(served));
  });
}

void LoadRun::Drain() {
  while (in_flight_ > 0 && Collect(kTick)) {
  }
  if (in_flight_ > 0) client_->CancelAll();
  while (in_flight_ > 0) Collect(kTick);
}

bool LoadRun::Collect(absl::Duration longest) {
  const auto wake = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopped_ != knows_of_stop_ || !ended_.empty();
  };
  std::vector<ServedRequest> ended;
  {
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(&wake), longest);
    ended.swap(ended_);
    knows_of_stop_ = stopped_;
  }
  for (const ServedRequest& request : ended) OnServed(request);
  workload_->OnTick(Elapsed(), in_flight_);
  return !knows_of_stop_;
}

void LoadRun::OnServed(const ServedRequest& request) {
  --in_flight_;
  // A client that was refused rests; so does one that found nobody there, or it would spin.
  const bool rests =
      absl::IsResourceExhausted(request.status) || absl::IsUnavailable(request.status);
  if (options_.max_concurrency > 0 && rests)
    resting_.push(Elapsed() + services::RetryAfter(request.status).value_or(kDefaultRest));
  workload_->OnServed(request);
}

}  // namespace ccoe::cli
