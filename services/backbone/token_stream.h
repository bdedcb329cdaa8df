// One query's answer on its way from the engine's thread to the network.
#ifndef CCOE_SERVICES_BACKBONE_TOKEN_STREAM_H_
#define CCOE_SERVICES_BACKBONE_TOKEN_STREAM_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "ccoe/v1/backbone.grpc.pb.h"
#include "runtime/engine/request.h"
#include "services/backbone/query_engine.h"

namespace ccoe::services {

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

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_BACKBONE_TOKEN_STREAM_H_
