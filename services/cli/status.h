// `ccoe status`: the workers and experts of a running cluster.
#ifndef CCOE_SERVICES_CLI_STATUS_H_
#define CCOE_SERVICES_CLI_STATUS_H_

#include "services/cli/command.h"

namespace ccoe::cli {

void RegisterStatus(CLI::App& app, CommandContext& context);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_STATUS_H_
