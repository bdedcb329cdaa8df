// SPDX-License-Identifier: Apache-2.0
// What each role is told, and its flags. A role's struct holds the options of its service and what
// its process needs. Its table (FlagsOf) is the one list of its flags: `ccoe ROLE`, config files
// and the children of a ProcessCluster take it from there, and `ccoe up` is made of the same parts.
//
// A new option: a field here or in the service's options, a line in the part of the table that it
// belongs to (role_options.cc), and its field in the round trip of role_options_test.cc, which does
// not compile without.
#ifndef CCOE_SERVICES_LAUNCHER_ROLE_OPTIONS_H_
#define CCOE_SERVICES_LAUNCHER_ROLE_OPTIONS_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "runtime/engine/engine_options.h"
#include "services/backbone/worker.h"
#include "services/common/compute.h"
#include "services/common/flag_table.h"
#include "services/common/role_environment.h"
#include "services/common/row_carriers.h"
#include "services/expert/worker.h"
#include "services/gateway/gateway.h"
#include "services/router/router.h"

namespace ccoe::services {

// Of every process that serves.
struct ProcessOptions {
  std::string http;                                  // /metrics and /healthz
  absl::Duration drain_timeout = absl::Seconds(30);  // that running queries get to end in a drain
  int announce_fd = -1;  // gets the line "ADDRESS HTTP_ADDRESS" once it serves; -1: none
};

// The defaults are those of a role that is alone in its process.

struct RouterRole {
  RouterRole();
  RouterOptions router;
  ProcessOptions process;
};

struct BackboneRole {
  BackboneRole();
  BackboneWorkerOptions worker;
  int threads = 0;  // of the compute team; 0: all cores
  ComputeOptions compute;
  ProcessOptions process;
};

struct ExpertRole {
  ExpertRole();
  ExpertWorkerOptions worker;
  int threads = 0;  // as BackboneRole
  ComputeOptions compute;
  ProcessOptions process;
};

struct GatewayRole {
  GatewayRole();
  GatewayOptions gateway;
  ProcessOptions process;
};

// In the order of their start: each needs those before it.
using RoleOptions = std::variant<RouterRole, BackboneRole, ExpertRole, GatewayRole>;
enum class RoleKind : uint8_t { kRouter, kBackbone, kExpert, kGateway };
// Each needs those after it to end its work.
inline constexpr RoleKind kDrainOrder[] = {RoleKind::kGateway, RoleKind::kBackbone,
                                           RoleKind::kExpert, RoleKind::kRouter};

RoleKind KindOf(const RoleOptions& role);
// Of its subcommand and its section in a config file: "backbone".
std::string KindName(RoleKind kind);
// "router", "gateway", or the worker's id.
std::string NameOf(const RoleOptions& role);
ProcessOptions& ProcessOf(RoleOptions& role);
const ProcessOptions& ProcessOf(const RoleOptions& role);
// Null of a gateway, which clients reach by TCP alone.
ServeOptions* ServeOf(RoleOptions& role);
// Where its gRPC server listens.
std::vector<std::string> ListenOf(RoleOptions role);
// Tells a role the router's address; a router needs none.
void SetRouterAddress(const std::string& address, RoleOptions& role);

// All flags of a role. The role must outlive the table.
FlagTable FlagsOf(RouterRole& role);
FlagTable FlagsOf(BackboneRole& role);
FlagTable FlagsOf(ExpertRole& role);
FlagTable FlagsOf(GatewayRole& role);

// Parts of them, for `ccoe up` and commands without a cluster.
FlagTable EndpointFlags(ProcessOptions& process);      // --http, --announce-fd
FlagTable DrainFlags(ProcessOptions& process);         // --drain-timeout
FlagTable LeaseFlags(RouterOptions& router);           // --lease
FlagTable AdmissionFlags(GatewayOptions& gateway);     // --max-queries, --longest-query
FlagTable EngineFlags(engine::EngineOptions& engine);  // --kv-tokens to --moe-allow-forced
FlagTable ComputeFlags(ComputeOptions& compute);       // --device, --math, --numerics
FlagTable ThreadsFlags(int& threads);
FlagTable RegisterFlags(ServeOptions& serve);                  // --register-timeout
FlagTable WithoutBaseTopFlags(BackboneWorkerOptions& worker);  // --without-base-top
// --kv-tokens, under the name that it has where the backbone's stands beside it.
FlagTable ExpertKvFlags(const std::string& name, ExpertWorkerOptions& worker);

// The section of a config file from which `ccoe KIND --config` makes the same options. A placement
// that the router's options hold beside the file's name is not in it.
std::string ConfigTextOf(RoleOptions role);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_LAUNCHER_ROLE_OPTIONS_H_
