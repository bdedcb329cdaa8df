// SPDX-License-Identifier: Apache-2.0
#include "services/launcher/role.h"

#include <malloc.h>

#include <optional>
#include <utility>
#include <variant>

#include "runtime/base/status_macros.h"
#include "services/common/compute.h"
#include "services/common/server_runner.h"

namespace ccoe::services {
namespace {

const std::string& AddressOf(const Gateway& gateway) { return gateway.addresses().front(); }
template <typename Service>
const std::string& AddressOf(const Service& service) {
  return service.address();
}

absl::Status StatusOf(const Gateway& gateway) { return gateway.ready(); }
template <typename Service>
absl::Status StatusOf(const Service& service) {
  return service.status();
}

template <typename Service>
class RunningRole final : public Role {
 public:
  explicit RunningRole(std::unique_ptr<Service> service) : service_(std::move(service)) {}

  const std::string& address() const override { return AddressOf(*service_); }
  absl::Status status() const override { return StatusOf(*service_); }
  void Drain(absl::Duration grace) override { service_->Drain(grace); }

 private:
  const std::unique_ptr<Service> service_;
};

template <typename Service>
absl::StatusOr<std::unique_ptr<Role>> Running(absl::StatusOr<std::unique_ptr<Service>> service) {
  if (!service.ok()) return service.status();
  return std::unique_ptr<Role>(new RunningRole<Service>(*std::move(service)));
}

// What an expert worker holds beside its tensors is rows on their way, a few megabytes a swap, on
// many threads. Left to itself malloc keeps the peak of every thread for good; so large blocks go
// back to the system at once, and threads share two arenas.
void KeepHeapSmall() {
  constexpr int kLargeBlock = 1 << 20;
  mallopt(M_MMAP_THRESHOLD, kLargeBlock);
  mallopt(M_TRIM_THRESHOLD, kLargeBlock);
  mallopt(M_ARENA_MAX, 2);
}

// Of a role's process; null: it computes nothing.
struct WorkerCompute {
  int threads;
  const ComputeOptions& options;
};

std::optional<WorkerCompute> ComputeOf(const RoleOptions& role) {
  if (const auto* backbone = std::get_if<BackboneRole>(&role)) {
    return WorkerCompute{backbone->threads, backbone->compute};
  }
  if (const auto* expert = std::get_if<ExpertRole>(&role)) {
    return WorkerCompute{expert->threads, expert->compute};
  }
  return std::nullopt;
}

struct Starter {
  const RoleEnvironment& environment;

  absl::StatusOr<std::unique_ptr<Role>> operator()(const RouterRole& role) const {
    return Running(Router::Create(role.router, environment));
  }
  absl::StatusOr<std::unique_ptr<Role>> operator()(const BackboneRole& role) const {
    return Running(BackboneWorker::Create(role.worker, environment));
  }
  absl::StatusOr<std::unique_ptr<Role>> operator()(const ExpertRole& role) const {
    return Running(ExpertWorker::Create(role.worker, environment));
  }
  absl::StatusOr<std::unique_ptr<Role>> operator()(const GatewayRole& role) const {
    return Running(Gateway::Create(role.gateway, environment));
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<Role>> StartRole(const RoleOptions& options,
                                                const RoleEnvironment& environment) {
  return std::visit(Starter{environment}, options);
}

absl::Status ServeRole(const RoleOptions& options, const ProcessEvents& events) {
  if (KindOf(options) == RoleKind::kExpert) KeepHeapSmall();
  const ProcessOptions& of_process = ProcessOf(options);
  CCOE_RETURN_IF_ERROR(CheckListening(ListenOf(options), of_process.http));
  const std::optional<WorkerCompute> computes = ComputeOf(options);
  CCOE_ASSIGN_OR_RETURN(
      const auto process,
      ServerProcess::Create(of_process, computes.has_value() ? computes->threads : 1, events));
  RoleEnvironment environment = process->environment();
  std::unique_ptr<Compute> compute;
  if (computes.has_value()) {
    CCOE_ASSIGN_OR_RETURN(compute, Compute::Create(computes->options, process->team()));
    environment.compute = compute.get();
  }
  CCOE_ASSIGN_OR_RETURN(const auto role, StartRole(options, environment));
  process->BeginServing(role->address(), [&role] { return role->status(); });
  process->WaitForSignal();
  role->Drain(process->drain_timeout());
  return absl::OkStatus();
}

}  // namespace ccoe::services
