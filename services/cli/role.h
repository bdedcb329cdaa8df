// `ccoe router`, `gateway`, `backbone`, `expert`: one role of a cluster as a process.
#ifndef CCOE_SERVICES_CLI_ROLE_H_
#define CCOE_SERVICES_CLI_ROLE_H_

#include "services/cli/command.h"

namespace ccoe::cli {

void RegisterRouter(CLI::App& app, CommandContext& context);
void RegisterGateway(CLI::App& app, CommandContext& context);
void RegisterBackbone(CLI::App& app, CommandContext& context);
void RegisterExpert(CLI::App& app, CommandContext& context);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_ROLE_H_
