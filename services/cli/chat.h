// `ccoe chat`: a conversation on the terminal.
#ifndef CCOE_SERVICES_CLI_CHAT_H_
#define CCOE_SERVICES_CLI_CHAT_H_

#include "services/cli/command.h"

namespace ccoe::cli {

void RegisterChat(CLI::App& app, CommandContext& context);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_CHAT_H_
