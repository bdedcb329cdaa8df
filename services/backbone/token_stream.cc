#include "services/backbone/token_stream.h"

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "services/backbone/moe_wire.h"
#include "services/backbone/wire.h"
#include "services/common/status_to_grpc.h"

namespace ccoe::services {

// What the engine holds; it keeps the stream alive, for the engine may still speak when the call is
// over.
class TokenStream::Sink final : public engine::TokenSink {
 public:
  explicit Sink(std::shared_ptr<TokenStream> stream) : stream_(std::move(stream)) {}
  void OnToken(const engine::GeneratedToken& token) override { stream_->AddToken(token); }
  void OnFinish(engine::FinishReason reason, const absl::Status& status,
                const engine::Usage& usage) override {
    stream_->AddFinish(reason, status, usage);
  }

 private:
  const std::shared_ptr<TokenStream> stream_;
};

TokenStream* TokenStream::Start(QueryEngine* engine, grpc::CallbackServerContext* context,
                                engine::EngineRequest query, int64_t max_unsent) {
  std::shared_ptr<TokenStream> stream(new TokenStream(engine, context, max_unsent));
  {
    absl::MutexLock lock(&stream->mutex_);
    stream->self_ = stream;
  }
  stream->Submit(std::move(query));
  return stream.get();  // kept by self_: OnDone cannot come before the reactor was handed to gRPC
}

void TokenStream::Submit(engine::EngineRequest query) {
  expert_ = query.expert;
  moe_ = query.moe;
  absl::StatusOr<uint64_t> handle =
      engine_->Submit(std::move(query), std::make_unique<Sink>(shared_from_this()));
  if (!handle.ok()) {
    FinishWith(handle.status());
    return;
  }
  bool cancel;
  {
    absl::MutexLock lock(&mutex_);
    handle_ = *handle;
    cancel = cancelled_;
  }
  if (cancel) engine_->Cancel(*handle);
}

void TokenStream::AddToken(const engine::GeneratedToken& token) {
  Action action;
  bool too_slow = false;
  {
    absl::MutexLock lock(&mutex_);
    if (broken_ || cancelled_ || finished_) return;
    *tokens_.mutable_tokens()->add_tokens() = TokenToProto(token);
    too_slow = tokens_.tokens().tokens_size() > max_unsent_;
    if (too_slow) broken_ = true;
    action = NextLocked();
  }
  // Leads to OnCancel on a thread of gRPC's, so that the engine is not called from its own
  // callback.
  if (too_slow) context_->TryCancel();
  Do(action);
}

void TokenStream::AddFinish(engine::FinishReason reason, const absl::Status& status,
                            const engine::Usage& usage) {
  if (!status.ok()) {
    FinishWith(status);
    return;
  }
  v1::BackboneGenerateResponse response;
  v1::Done* done = response.mutable_done();
  done->set_reason(FinishReasonToProto(reason));
  *done->mutable_usage() = UsageToProto(usage);
  if (!expert_.empty()) *done->mutable_expert() = ExpertToProto(expert_);
  if (moe_ != nullptr) *done->mutable_moe() = MoeControlToProto(*moe_);
  Action action;
  {
    absl::MutexLock lock(&mutex_);
    done_ = std::move(response);
    status_ = absl::OkStatus();
    action = NextLocked();
  }
  Do(action);
}

void TokenStream::FinishWith(const absl::Status& status) {
  Action action;
  {
    absl::MutexLock lock(&mutex_);
    status_ = status;
    action = NextLocked();
  }
  Do(action);
}

void TokenStream::OnWriteDone(bool ok) {
  Action action;
  {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok) broken_ = true;
    action = NextLocked();
  }
  if (!ok) CancelQuery();
  Do(action);
}

void TokenStream::OnCancel() {
  {
    absl::MutexLock lock(&mutex_);
    broken_ = true;
  }
  CancelQuery();
}

void TokenStream::CancelQuery() {
  std::optional<uint64_t> handle;
  {
    absl::MutexLock lock(&mutex_);
    cancelled_ = true;
    handle = handle_;
  }
  if (handle.has_value()) engine_->Cancel(*handle);
}

void TokenStream::OnDone() {
  std::shared_ptr<TokenStream> last;
  absl::MutexLock lock(&mutex_);
  last = std::move(self_);  // destroyed after the lock is released
}

TokenStream::Action TokenStream::NextLocked() {
  if (writing_ || finished_) return Action::kNone;
  if (!broken_ && tokens_.has_tokens()) {
    written_.Swap(&tokens_);
    tokens_.Clear();
    writing_ = true;
    return Action::kWrite;
  }
  if (!broken_ && done_.has_value()) {
    written_ = *std::exchange(done_, std::nullopt);
    writing_ = true;
    return Action::kWrite;
  }
  if (!status_.has_value()) return Action::kNone;
  finished_ = true;
  return Action::kFinish;
}

void TokenStream::Do(Action action) {
  if (action == Action::kWrite) StartWrite(&written_);
  if (action != Action::kFinish) return;
  absl::Status status;
  {
    absl::MutexLock lock(&mutex_);
    status = *status_;
  }
  Finish(ToGrpc(status, context_));
}

}  // namespace ccoe::services
