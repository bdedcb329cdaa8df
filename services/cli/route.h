// `ccoe route "text"`: where a question would go, and why.
#ifndef CCOE_SERVICES_CLI_ROUTE_H_
#define CCOE_SERVICES_CLI_ROUTE_H_

#include "services/cli/command.h"

namespace ccoe::cli {

void RegisterRoute(CLI::App& app, CommandContext& context);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_ROUTE_H_
