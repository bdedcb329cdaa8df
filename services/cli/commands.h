// SPDX-License-Identifier: Apache-2.0
// The subcommands of `ccoe`, each a Register function (services/cli/command.h says how one is
// made). main.cc lists those of the application; their groups list the others.
#ifndef CCOE_SERVICES_CLI_COMMANDS_H_
#define CCOE_SERVICES_CLI_COMMANDS_H_

#include "services/cli/command.h"

namespace ccoe::cli {

// client/: what talks to a running cluster.
void RegisterGenerate(CLI::App& app, CommandContext& context);  // with --offline no cluster
void RegisterAsk(CLI::App& app, CommandContext& context);
void RegisterChat(CLI::App& app, CommandContext& context);
void RegisterRoute(CLI::App& app, CommandContext& context);
void RegisterEval(CLI::App& app, CommandContext& context);
void RegisterMoe(CLI::App& app, CommandContext& context);
void RegisterStatus(CLI::App& app, CommandContext& context);

// operate/: a cluster, its roles, and what its workers hold.
void RegisterUp(CLI::App& app, CommandContext& context);
void RegisterRouter(CLI::App& app, CommandContext& context);
void RegisterGateway(CLI::App& app, CommandContext& context);
void RegisterBackbone(CLI::App& app, CommandContext& context);
void RegisterExpert(CLI::App& app, CommandContext& context);
void RegisterPlacement(CLI::App& app, CommandContext& context);

// offline/: work on models and bundles in this process alone.
void RegisterScore(CLI::App& app, CommandContext& context);
void RegisterTokenize(CLI::App& app, CommandContext& context);
void RegisterExperts(CLI::App& app, CommandContext& context);

// bench/: `bench` and what is below it.
void RegisterBench(CLI::App& app, CommandContext& context);
void RegisterBenchMemory(CLI::App& bench, CommandContext& context);
void RegisterBenchMoe(CLI::App& bench, CommandContext& context);
void RegisterBenchServe(CLI::App& bench, CommandContext& context);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_COMMANDS_H_
