// `ccoe moe stats`: what the gates of a running mixture-of-experts model choose.
#ifndef CCOE_SERVICES_CLI_MOE_H_
#define CCOE_SERVICES_CLI_MOE_H_

#include "services/cli/command.h"

namespace ccoe::cli {

void RegisterMoe(CLI::App& app, CommandContext& context);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_MOE_H_
