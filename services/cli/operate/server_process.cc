// SPDX-License-Identifier: Apache-2.0
#include "services/cli/operate/server_process.h"

#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "grpc/support/log.h"
#include "runtime/base/status_macros.h"
#include "services/cli/command.h"

namespace ccoe::cli {

void AddServerFlags(CLI::App* command, ServerFlags& flags) {
  AddFlag(command, "--http", flags.http,
          "Where /metrics (Prometheus) and /healthz are served; port 0 takes a free one.");
  AddFlag(command, "--drain-timeout", flags.drain_timeout_seconds,
          "Seconds that running queries get to end after SIGTERM.")
      .Range(0.0, 86400.0);
  AddFlag(command, "--announce-fd", flags.announce_fd,
          "Open file descriptor that \"ADDRESS HTTP_ADDRESS\" is written to once this process "
          "serves; -1: none.");
}

absl::StatusOr<std::unique_ptr<ServerProcess>> ServerProcess::Create(const ServerFlags& flags,
                                                                     int threads) {
  std::unique_ptr<ServerProcess> process(new ServerProcess(flags));
  CCOE_RETURN_IF_ERROR(process->Start(threads));
  return process;
}

ServerProcess::~ServerProcess() { EndHealth(); }

absl::Status ServerProcess::Start(int threads) {
  // gRPC's own lines say again, at length, what our errors say.
  gpr_set_log_function([](gpr_log_func_args* line) { VLOG(1) << "gRPC: " << line->message; });
  CCOE_ASSIGN_OR_RETURN(signals_, services::SignalWatcher::Create([this](int) { OnSignal(); }));
  team_ = std::make_unique<ThreadTeam>(threads);
  metrics_ = std::make_shared<telemetry::Metrics>();
  channels_ = std::make_unique<services::ChannelFactory>(nullptr);
  environment_.channels = channels_.get();
  environment_.metrics = metrics_.get();
  environment_.on_progress = [this](const std::string& what) { status_line_.Show(what); };
  services::HttpOptions http;
  http.listen = flags_.http;
  http.metrics = metrics_;
  http.health = [this] { return Health(); };
  CCOE_ASSIGN_OR_RETURN(http_, services::HttpEndpoints::Start(std::move(http)));
  return absl::OkStatus();
}

void ServerProcess::OnSignal() {
  // Nothing is in flight that a drain could wait for.
  if (!serving_.load()) _exit(kExitOk);
}

void ServerProcess::BeginServing(const std::string& address, std::function<absl::Status()> health) {
  status_line_.Clear();
  {
    absl::MutexLock lock(&mutex_);
    health_ = std::move(health);
  }
  serving_.store(true);
  if (flags_.announce_fd < 0) return;
  const std::string line = absl::StrCat(address, " ", http_->address(), "\n");
  // A reader that is gone needs no announcement.
  (void)!write(flags_.announce_fd, line.data(), line.size());
  close(flags_.announce_fd);
}

void ServerProcess::WaitForSignal() {
  signals_->Wait();
  EndHealth();
}

void ServerProcess::EndHealth() {
  absl::MutexLock lock(&mutex_);
  health_ = [] { return absl::UnavailableError("draining"); };
}

absl::Status ServerProcess::Health() {
  absl::MutexLock lock(&mutex_);
  return health_();
}

absl::Status AsServerFailure(const absl::Status& status) {
  if (!absl::IsUnavailable(status)) return status;
  return absl::FailedPreconditionError(status.message());
}

}  // namespace ccoe::cli
