// SPDX-License-Identifier: Apache-2.0
// `ccoe router`, `gateway`, `backbone`, `expert`: one role of a cluster as a process.
#include "services/launcher/role.h"

#include <iostream>
#include <memory>
#include <string>

#include "services/cli/commands.h"
#include "services/cli/output.h"
#include "services/launcher/role_options.h"

namespace ccoe::cli {
namespace {

absl::Status Run(const services::RoleOptions& role) {
  StatusLine line;
  services::ProcessEvents events;
  events.on_progress = [&line](const std::string& what) { line.Show(what); };
  events.on_serving = [&](const std::string& address, const std::string& http_address) {
    line.Clear();
    std::cerr << "ccoe " << services::NameOf(role) << " serves on " << address
              << ", /metrics and /healthz on " << http_address << std::endl;
  };
  return AsServerFailure(services::ServeRole(role, events));
}

template <typename Options>
void Register(CLI::App& app, CommandContext& context, const std::string& description) {
  auto role = std::make_shared<Options>();
  CLI::App* command = AddCommand(app, context, services::KindName(services::KindOf(Options())),
                                 description, [role] { return Run(*role); });
  AddConfigFlags(command, context, services::FlagsOf(*role));
}

}  // namespace

void RegisterRouter(CLI::App& app, CommandContext& context) {
  Register<services::RouterRole>(app, context,
                                 "Runs a cluster's router: who is there, who answers what.");
}

void RegisterGateway(CLI::App& app, CommandContext& context) {
  Register<services::GatewayRole>(app, context, "Runs a cluster's gateway: what clients talk to.");
}

void RegisterBackbone(CLI::App& app, CommandContext& context) {
  Register<services::BackboneRole>(app, context,
                                   "Runs a backbone worker: the layers that all experts share.");
}

void RegisterExpert(CLI::App& app, CommandContext& context) {
  Register<services::ExpertRole>(
      app, context,
      "Runs an expert worker: the layers of some experts, and the FFN experts that the router's "
      "placement assigns to it.");
}

}  // namespace ccoe::cli
