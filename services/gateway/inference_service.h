// SPDX-License-Identifier: Apache-2.0
// The Inference service: what clients talk to, and how many of their queries run at once.
#ifndef CCOE_SERVICES_GATEWAY_INFERENCE_SERVICE_H_
#define CCOE_SERVICES_GATEWAY_INFERENCE_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "ccoe/v1/inference.grpc.pb.h"
#include "runtime/base/clock.h"
#include "services/gateway/query.h"

namespace ccoe::services {

// How many queries a gateway takes on at once. Thread-safe.
class Admission {
 public:
  // A place; given back on destruction. The admission must outlive it.
  class Ticket {
   public:
    explicit Ticket(Admission* admission) : admission_(admission) {}
    ~Ticket() { admission_->Leave(); }
    Ticket(const Ticket&) = delete;
    Ticket& operator=(const Ticket&) = delete;

   private:
    Admission* const admission_;
  };

  // `limit` >= 1 queries at once. `clock` must outlive this.
  Admission(int64_t limit, const Clock* clock) : limit_(limit), clock_(clock) {}

  // RESOURCE_EXHAUSTED with a retry hint (the usual time between two queries' ends) where all
  // places are taken.
  absl::StatusOr<std::unique_ptr<Ticket>> Enter() ABSL_LOCKS_EXCLUDED(mutex_);

  // Places taken.
  int64_t taken() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Leave() ABSL_LOCKS_EXCLUDED(mutex_);

  const int64_t limit_;
  const Clock* const clock_;
  mutable absl::Mutex mutex_;
  int64_t taken_ ABSL_GUARDED_BY(mutex_) = 0;
  // While the gateway is full: when a query last ended, and a running mean of the time between two
  // ends.
  absl::Time last_end_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  absl::Duration mean_gap_ ABSL_GUARDED_BY(mutex_) = absl::Milliseconds(500);
};

// Thread-safe.
class InferenceService final : public v1::Inference::Service {
 public:
  // Everything outlives the service's calls. `longest_query`: of queries whose client set no
  // deadline, or a later one.
  InferenceService(const QueryParts& parts, Admission* admission, absl::Duration longest_query)
      : parts_(parts), admission_(admission), longest_query_(longest_query) {}

  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override;
  grpc::Status Tokenize(grpc::ServerContext* context, const v1::TokenizeRequest* request,
                        v1::TokenizeResponse* response) override;
  grpc::Status ListExperts(grpc::ServerContext* context, const v1::ListExpertsRequest* request,
                           v1::ListExpertsResponse* response) override;
  grpc::Status Route(grpc::ServerContext* context, const v1::RouteTextRequest* request,
                     v1::Decision* response) override;

 private:
  const QueryParts parts_;
  Admission* const admission_;
  const absl::Duration longest_query_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_GATEWAY_INFERENCE_SERVICE_H_
