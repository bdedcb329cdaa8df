// An expert worker: loads bundles, serves them over links, tells the router what it holds.
#ifndef CCOE_SERVICES_EXPERT_WORKER_H_
#define CCOE_SERVICES_EXPERT_WORKER_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ccoe/v1/control.pb.h"
#include "runtime/experts/expert_runner.h"
#include "services/common/registration.h"
#include "services/common/role_environment.h"
#include "services/common/server_runner.h"
#include "services/expert/exchange_service.h"
#include "services/expert/held_bundles.h"

namespace ccoe::services {

struct ExpertWorkerOptions {
  std::string worker_id = "expert-0";  // unique in the cluster
  std::string base_folder;  // the base model; its weights may be missing (see HeldBundles)
  std::vector<std::string> bundle_folders;  // at least one
  std::string router;                       // address
  ServeOptions serve;
  experts::ExpertRunnerOptions runner;
};

// Thread-safe. Destruction stops serving at once.
class ExpertWorker {
 public:
  // Loads, serves and registers; returns once the router knows the worker. Errors name the file,
  // tensor, address or peer.
  static absl::StatusOr<std::unique_ptr<ExpertWorker>> Create(const ExpertWorkerOptions& options,
                                                              const RoleEnvironment& environment);
  ~ExpertWorker();

  // Leaves the router's table, waits for running swaps until `grace` is over, then closes the
  // links.
  void Drain(absl::Duration grace);

  // What others dial.
  const std::string& address() const { return address_; }
  // OK while the router hears the worker.
  absl::Status status() const { return registration_->status(); }
  std::vector<experts::ExpertLoad> Load() const { return runner_->Load(); }

 private:
  ExpertWorker(const ExpertWorkerOptions& options, const RoleEnvironment& environment)
      : options_(options), environment_(environment) {}

  absl::Status LoadExperts();
  absl::Status Serve();
  absl::Status Register();
  v1::WorkerReport Report() const;

  const ExpertWorkerOptions options_;
  const RoleEnvironment environment_;
  std::string address_;
  std::string model_identity_;
  std::vector<v1::HeldExpert> held_;
  std::atomic<bool> draining_ = false;
  std::unique_ptr<experts::ExpertRunner> runner_;
  std::unique_ptr<telemetry::Metrics::Sampler> sampler_;
  std::unique_ptr<ExchangeService> service_;
  std::unique_ptr<ServerRunner> server_;
  std::unique_ptr<Registration> registration_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_EXPERT_WORKER_H_
