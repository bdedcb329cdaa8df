// SPDX-License-Identifier: Apache-2.0
// A running gRPC server with health, reflection, limits and drain: the same for every role.
#ifndef CCOE_SERVICES_COMMON_SERVER_RUNNER_H_
#define CCOE_SERVICES_COMMON_SERVER_RUNNER_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "services/common/channel_factory.h"

namespace ccoe::services {

// A service and the name that its health is asked by: ccoe::v1::Inference::service_full_name().
struct NamedService {
  grpc::Service* service = nullptr;  // outlives the server
  std::string full_name;
};

struct ServerOptions {
  // "host:port"; port 0 picks a free one (see ServerRunner::addresses). Empty: reachable in this
  // process only.
  std::vector<std::string> listen = {"127.0.0.1:0"};
  std::vector<NamedService> services;
  // Registers the server as "inproc:NAME" while it runs. Empty: not at all. `registry` outlives the
  // server.
  std::string in_process_name;
  InProcessRegistry* registry = nullptr;
  // gRPC server reflection (v1alpha). Unset: on where all listen addresses are loopback.
  std::optional<bool> reflection;
  int max_message_bytes = kMaxMessageBytes;
  // Bound on the server's threads: a running call of the synchronous API takes one, streams
  // included. Calls beyond it get RESOURCE_EXHAUSTED.
  int max_threads = 512;
  // Called once when the drain begins, after the health says NOT_SERVING and before the server
  // waits for its calls: the place to end streams that have no end of their own. Default: nothing.
  std::function<void()> on_drain;
};

// Besides the given services it serves grpc.health.v1.Health for "", "readiness", "liveness" and
// every service's full name. "liveness" is SERVING while the process lives; the others follow
// SetReady and begin as NOT_SERVING.
//
// Thread-safe. Destruction drains without waiting (running calls are cancelled).
class ServerRunner {
 public:
  // INVALID_ARGUMENT for a malformed address, UNAVAILABLE naming the address where a port is in
  // use, ALREADY_EXISTS where the in-process name is.
  static absl::StatusOr<std::unique_ptr<ServerRunner>> Start(ServerOptions options);

  ~ServerRunner();
  ServerRunner(const ServerRunner&) = delete;
  ServerRunner& operator=(const ServerRunner&) = delete;

  // What clients can dial, in the order of ServerOptions::listen, with the real ports.
  const std::vector<std::string>& addresses() const { return addresses_; }

  // Tells health watchers whether new queries are welcome. Without effect once a drain has begun.
  void SetReady(bool ready) ABSL_LOCKS_EXCLUDED(mutex_);

  // Health goes NOT_SERVING, no call is accepted any more, running ones may end until `grace` is
  // over and are cancelled then. Returns when the last handler has returned (handlers must look at
  // IsCancelled). May be called again.
  void Drain(absl::Duration grace) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  ServerRunner(ServerOptions options, std::vector<std::string> addresses,
               std::unique_ptr<grpc::Server> server);
  void ReportHealth(bool ready) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const ServerOptions options_;
  const std::vector<std::string> addresses_;
  const std::unique_ptr<grpc::Server> server_;
  absl::Mutex mutex_;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
};

// Whether servers could listen at these addresses now, for whoever has much to do before it serves:
// `grpc`, and `http` for metrics and health (empty: not asked). UNAVAILABLE names the address that
// another process holds or that is none of this machine's; INVALID_ARGUMENT for a malformed one,
// and for one that both want.
absl::Status CheckListening(const std::vector<std::string>& grpc, const std::string& http);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_SERVER_RUNNER_H_
