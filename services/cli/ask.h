// `ccoe ask`: asks test questions one by one and shows each answer as it streams, with the expert,
// the reason, and whether it is right.
#ifndef CCOE_SERVICES_CLI_ASK_H_
#define CCOE_SERVICES_CLI_ASK_H_

#include "services/cli/command.h"

namespace ccoe::cli {

void RegisterAsk(CLI::App& app, CommandContext& context);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_ASK_H_
