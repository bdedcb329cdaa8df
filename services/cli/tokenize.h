// `ccoe tokenize`: text to token ids and back, one JSON value a line.
#ifndef CCOE_SERVICES_CLI_TOKENIZE_H_
#define CCOE_SERVICES_CLI_TOKENIZE_H_

#include "services/cli/command.h"

namespace ccoe::cli {

void RegisterTokenize(CLI::App& app, CommandContext& context);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_TOKENIZE_H_
