// `ccoe up`: a whole cluster, in one process or in several on this machine.
#ifndef CCOE_SERVICES_CLI_UP_H_
#define CCOE_SERVICES_CLI_UP_H_

#include "services/cli/command.h"

namespace ccoe::cli {

void RegisterUp(CLI::App& app, CommandContext& context);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_UP_H_
