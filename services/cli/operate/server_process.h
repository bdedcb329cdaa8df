// SPDX-License-Identifier: Apache-2.0
// What the subcommands that serve have in common: flags, signals, the compute team, metrics over
// HTTP, the wait for SIGTERM.
#ifndef CCOE_SERVICES_CLI_OPERATE_SERVER_PROCESS_H_
#define CCOE_SERVICES_CLI_OPERATE_SERVER_PROCESS_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "runtime/base/parallel.h"
#include "runtime/telemetry/metrics.h"
#include "services/cli/command.h"
#include "services/cli/output.h"
#include "services/common/channel_factory.h"
#include "services/common/http_endpoints.h"
#include "services/common/role_environment.h"
#include "services/common/signals.h"

namespace ccoe::cli {

struct ServerFlags {
  std::string http = "127.0.0.1:8002";
  double drain_timeout_seconds = 30;
  int announce_fd = -1;
};

// --http, --drain-timeout, --announce-fd.
void AddServerFlags(CLI::App* command, ServerFlags& flags);

// Used by one thread.
class ServerProcess {
 public:
  // Watches for SIGTERM and SIGINT (until Serve they end the process at once, with exit code 0) and
  // serves /metrics and /healthz (503 until Serve). `threads`: of the compute team, 0: all cores.
  static absl::StatusOr<std::unique_ptr<ServerProcess>> Create(const ServerFlags& flags,
                                                               int threads);
  ~ServerProcess();

  const services::RoleEnvironment& environment() const { return environment_; }
  ThreadTeam* team() const { return team_.get(); }
  StatusLine& status_line() { return status_line_; }
  const std::string& http_address() const { return http_->address(); }

  // The process is up: /healthz follows `health` from now on, and what is written to --announce-fd
  // is the line "ADDRESS HTTP_ADDRESS". From here a signal means a drain.
  void BeginServing(const std::string& address, std::function<absl::Status()> health);
  // Whether a signal came since.
  bool stopping() const { return signals_->signalled(); }
  // Waits for it. Afterwards `health` is not called any more.
  void WaitForSignal();
  // WaitForSignal for those who poll `stopping` themselves.
  void EndHealth() ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Duration drain_timeout() const { return absl::Seconds(flags_.drain_timeout_seconds); }

 private:
  explicit ServerProcess(const ServerFlags& flags)
      : flags_(flags), health_([] { return absl::UnavailableError("loading"); }) {}

  absl::Status Start(int threads);
  void OnSignal();
  absl::Status Health() ABSL_LOCKS_EXCLUDED(mutex_);

  const ServerFlags flags_;
  StatusLine status_line_;
  std::atomic<bool> serving_ = false;
  absl::Mutex mutex_;
  std::function<absl::Status()> health_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<services::SignalWatcher> signals_;
  std::unique_ptr<ThreadTeam> team_;
  std::shared_ptr<telemetry::Metrics> metrics_;
  std::unique_ptr<services::ChannelFactory> channels_;
  services::RoleEnvironment environment_;
  std::unique_ptr<services::HttpEndpoints> http_;
};

// A server's own failure, for its exit code: UNAVAILABLE (a port in use) means elsewhere that a
// client finds no server.
absl::Status AsServerFailure(const absl::Status& status);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_OPERATE_SERVER_PROCESS_H_
