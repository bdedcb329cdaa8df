// `ccoe placement`: which worker holds which FFN experts, planned, shown and checked.
#ifndef CCOE_SERVICES_CLI_PLACEMENT_H_
#define CCOE_SERVICES_CLI_PLACEMENT_H_

#include "services/cli/command.h"

namespace ccoe::cli {

void RegisterPlacement(CLI::App& app, CommandContext& context);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_PLACEMENT_H_
