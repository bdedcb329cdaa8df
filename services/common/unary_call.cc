#include "services/common/unary_call.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/base/status_macros.h"
#include "services/common/backoff.h"
#include "services/common/status_to_grpc.h"

namespace ccoe::services {

absl::Status CallWithRetries(absl::string_view method, const CallPolicy& policy,
                             absl::FunctionRef<grpc::Status(grpc::ClientContext*)> attempt) {
  const absl::Time deadline = absl::Now() + policy.deadline;
  Backoff backoff(policy.first_backoff, policy.max_backoff);
  for (int attempts = 1;; ++attempts) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(deadline));
    const absl::Time start = absl::Now();
    const grpc::Status answer = attempt(&context);
    const absl::Status status = FromGrpc(answer, context);
    if (policy.on_attempt) policy.on_attempt(method, status, absl::Now() - start);
    if (status.ok()) return status;
    const absl::Duration pause = backoff.Next();
    if (!absl::IsUnavailable(status) || attempts >= policy.max_attempts ||
        absl::Now() + pause >= deadline) {
      const absl::Status named = Annotate(status, method);
      const auto hint = RetryAfter(status);
      return hint.has_value() ? WithRetryAfter(named, *hint) : named;
    }
    absl::SleepFor(pause);
  }
}

}  // namespace ccoe::services
