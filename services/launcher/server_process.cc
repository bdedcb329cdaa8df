// SPDX-License-Identifier: Apache-2.0
#include "services/launcher/server_process.h"

#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "grpc/support/log.h"
#include "runtime/base/status_macros.h"

namespace ccoe::services {

absl::StatusOr<std::unique_ptr<ServerProcess>> ServerProcess::Create(const ProcessOptions& options,
                                                                     int threads,
                                                                     ProcessEvents events) {
  std::unique_ptr<ServerProcess> process(new ServerProcess(options, std::move(events)));
  CCOE_RETURN_IF_ERROR(process->Start(threads));
  return process;
}

ServerProcess::~ServerProcess() { EndHealth(); }

absl::Status ServerProcess::Start(int threads) {
  // gRPC's own lines say again, at length, what our errors say.
  gpr_set_log_function([](gpr_log_func_args* line) { VLOG(1) << "gRPC: " << line->message; });
  CCOE_ASSIGN_OR_RETURN(signals_, SignalWatcher::Create([this](int) { OnSignal(); }));
  team_ = std::make_unique<ThreadTeam>(threads);
  metrics_ = std::make_shared<telemetry::Metrics>();
  channels_ = std::make_unique<ChannelFactory>(nullptr);
  environment_.channels = channels_.get();
  environment_.metrics = metrics_.get();
  environment_.on_progress = events_.on_progress;
  HttpOptions http;
  http.listen = options_.http;
  http.metrics = metrics_;
  http.health = [this] { return Health(); };
  CCOE_ASSIGN_OR_RETURN(http_, HttpEndpoints::Start(std::move(http)));
  return absl::OkStatus();
}

void ServerProcess::OnSignal() {
  // Nothing is in flight that a drain could wait for.
  if (!serving_.load()) _exit(0);
}

void ServerProcess::BeginServing(const std::string& address, std::function<absl::Status()> health) {
  {
    absl::MutexLock lock(&mutex_);
    health_ = std::move(health);
  }
  serving_.store(true);
  Announce(options_.announce_fd, address, http_->address());
  if (events_.on_serving) events_.on_serving(address, http_->address());
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

void Announce(int fd, const std::string& address, const std::string& http_address) {
  if (fd < 0) return;
  const std::string line = absl::StrCat(address, " ", http_address, "\n");
  // A reader that is gone needs no announcement.
  (void)!write(fd, line.data(), line.size());
  close(fd);
}

}  // namespace ccoe::services
