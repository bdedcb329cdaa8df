// One way to make a unary call: deadline, retries with backoff, StatusOr, a hook for metrics.
#ifndef CCOE_SERVICES_COMMON_UNARY_CALL_H_
#define CCOE_SERVICES_COMMON_UNARY_CALL_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace ccoe::services {

struct CallPolicy {
  // For the whole call, retries and backoff included.
  absl::Duration deadline = absl::Seconds(5);
  // 1: no retry. Only UNAVAILABLE is retried, so the call must be idempotent.
  int max_attempts = 3;
  // Doubled after every attempt, each time shortened by up to 20 % at random.
  absl::Duration first_backoff = absl::Milliseconds(50);
  absl::Duration max_backoff = absl::Seconds(1);
  // Called after every attempt; from the calling thread. Unset: nothing.
  std::function<void(absl::string_view method, const absl::Status& status, absl::Duration took)>
      on_attempt;
};

// Runs `attempt` as `policy` says. The error names the method.
absl::Status CallWithRetries(absl::string_view method, const CallPolicy& policy,
                             absl::FunctionRef<grpc::Status(grpc::ClientContext*)> attempt);

// CallUnary<Response>("Routing.Route", policy, [&](auto* context, auto* response) {
//   return stub->Route(context, request, response); });
template <typename Response, typename Attempt>
absl::StatusOr<Response> CallUnary(absl::string_view method, const CallPolicy& policy,
                                   Attempt&& attempt) {
  Response response;
  const absl::Status status = CallWithRetries(method, policy, [&](grpc::ClientContext* context) {
    response.Clear();
    return attempt(context, &response);
  });
  if (!status.ok()) return status;
  return response;
}

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_UNARY_CALL_H_
