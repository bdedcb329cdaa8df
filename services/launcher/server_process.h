// SPDX-License-Identifier: Apache-2.0
// What a process has around the roles that it runs: signals, the compute team, metrics and health
// over HTTP, the wait for SIGTERM.
#ifndef CCOE_SERVICES_LAUNCHER_SERVER_PROCESS_H_
#define CCOE_SERVICES_LAUNCHER_SERVER_PROCESS_H_

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
#include "services/common/channel_factory.h"
#include "services/common/http_endpoints.h"
#include "services/common/role_environment.h"
#include "services/common/signals.h"
#include "services/launcher/role_options.h"

namespace ccoe::services {

// Told what a process does, for people. Both may be unset.
struct ProcessEvents {
  std::function<void(const std::string& what)> on_progress;  // until it serves
  std::function<void(const std::string& address, const std::string& http_address)> on_serving;
};

// Used by one thread.
class ServerProcess {
 public:
  // Watches for SIGTERM and SIGINT (until it serves they end the process at once, with exit code 0)
  // and serves /metrics and /healthz (503 until it serves). `threads`: of the compute team, 0: all
  // cores.
  static absl::StatusOr<std::unique_ptr<ServerProcess>> Create(const ProcessOptions& options,
                                                               int threads, ProcessEvents events);
  ~ServerProcess();

  const RoleEnvironment& environment() const { return environment_; }
  ThreadTeam* team() const { return team_.get(); }
  const std::string& http_address() const { return http_->address(); }

  // The process is up: /healthz follows `health` from now on, and what is written to announce_fd
  // is the line "ADDRESS HTTP_ADDRESS". From here a signal means a drain.
  void BeginServing(const std::string& address, std::function<absl::Status()> health);
  // Whether a signal came since.
  bool stopping() const { return signals_->signalled(); }
  // Waits for it. Afterwards `health` is not called any more.
  void WaitForSignal() ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Duration drain_timeout() const { return options_.drain_timeout; }

 private:
  ServerProcess(const ProcessOptions& options, ProcessEvents events)
      : options_(options),
        events_(std::move(events)),
        health_([] { return absl::UnavailableError("loading"); }) {}

  absl::Status Start(int threads);
  void OnSignal();
  absl::Status Health() ABSL_LOCKS_EXCLUDED(mutex_);
  void EndHealth() ABSL_LOCKS_EXCLUDED(mutex_);

  const ProcessOptions options_;
  const ProcessEvents events_;
  std::atomic<bool> serving_ = false;
  absl::Mutex mutex_;
  std::function<absl::Status()> health_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<SignalWatcher> signals_;
  std::unique_ptr<ThreadTeam> team_;
  std::shared_ptr<telemetry::Metrics> metrics_;
  std::unique_ptr<ChannelFactory> channels_;
  RoleEnvironment environment_;
  std::unique_ptr<HttpEndpoints> http_;
};

// Writes "ADDRESS HTTP_ADDRESS" to `fd` and closes it; -1: nothing.
void Announce(int fd, const std::string& address, const std::string& http_address);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_LAUNCHER_SERVER_PROCESS_H_
