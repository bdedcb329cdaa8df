// SPDX-License-Identifier: Apache-2.0
#include "services/backbone/backbone_service.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "services/backbone/proto_conversions.h"
#include "services/common/status_to_grpc.h"

namespace ccoe::services {
namespace {

// The reactor of one Backbone.Generate call. The engine never waits for the network: tokens that
// come while a message is being written gather in the next one, up to a bound; a reader slower than
// that loses its query (CANCELLED).
//
// It lives until gRPC says OnDone and the engine has let go of its sink, whichever is later.
// Thread-safe.
class TokenStream final : public grpc::ServerWriteReactor<v1::BackboneGenerateResponse>,
                          public std::enable_shared_from_this<TokenStream> {
 public:
  // Submits `query` to `engine` and returns the reactor to hand to gRPC. `engine` and `context`
  // outlive the call. `max_unsent` >= 1 tokens.
  static TokenStream* Start(QueryEngine* engine, grpc::CallbackServerContext* context,
                            engine::EngineRequest query, int64_t max_unsent);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  class Sink;
  enum class Action { kNone, kWrite, kFinish };

  TokenStream(QueryEngine* engine, grpc::CallbackServerContext* context, int64_t max_unsent)
      : engine_(engine), context_(context), max_unsent_(max_unsent) {}

  void Submit(engine::EngineRequest query);
  void AddToken(const engine::GeneratedToken& token);
  void AddFinish(engine::FinishReason reason, const absl::Status& status,
                 const engine::Usage& usage);
  void FinishWith(const absl::Status& status);
  void CancelQuery();
  // What to do next, once; the caller then does it without the lock.
  Action NextLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Do(Action action);

  QueryEngine* const engine_;
  grpc::CallbackServerContext* const context_;
  const int64_t max_unsent_;
  ExpertRef expert_;
  std::shared_ptr<const engine::MoeControl> moe_;  // of the query
  v1::BackboneGenerateResponse written_;           // owned by gRPC while writing_

  absl::Mutex mutex_;
  std::shared_ptr<TokenStream> self_ ABSL_GUARDED_BY(mutex_);  // until OnDone
  v1::BackboneGenerateResponse tokens_ ABSL_GUARDED_BY(mutex_);
  std::optional<v1::BackboneGenerateResponse> done_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> status_ ABSL_GUARDED_BY(mutex_);  // set: the answer is complete
  std::optional<uint64_t> handle_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;     // nothing more can be written
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;  // the query was cancelled, or shall be
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;   // Finish was called
};

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
  return TokenStream::Start(engine_, context, *std::move(query), max_unsent_tokens_);
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
