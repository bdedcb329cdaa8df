// SPDX-License-Identifier: Apache-2.0
// A role that runs: made from its options (role_options.h), alone in its process or beside others.
#ifndef CCOE_SERVICES_LAUNCHER_ROLE_H_
#define CCOE_SERVICES_LAUNCHER_ROLE_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/common/role_environment.h"
#include "services/launcher/role_options.h"
#include "services/launcher/server_process.h"

namespace ccoe::services {

// Thread-safe. Destruction cancels what runs.
class Role {
 public:
  virtual ~Role() = default;

  // What others dial; with the real port.
  virtual const std::string& address() const = 0;
  // OK while it does its work: Gateway::ready, and `status` of the others.
  virtual absl::Status status() const = 0;
  // Refuses what is new, lets what runs end until `grace` is over.
  virtual void Drain(absl::Duration grace) = 0;
};

// Loads, serves and, of a worker, registers. A worker needs environment.compute. Of the options,
// those of a process (threads, compute, process) are the caller's business. Errors as the role's
// Create.
absl::StatusOr<std::unique_ptr<Role>> StartRole(const RoleOptions& options,
                                                const RoleEnvironment& environment);

// Runs a role as this process until a signal comes, then drains: what `ccoe ROLE` does. An address
// that is taken is an error before anything is loaded.
absl::Status ServeRole(const RoleOptions& options, const ProcessEvents& events);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_LAUNCHER_ROLE_H_
