// `ccoe generate`: asks a running cluster, or with --offline runs the model in this process.
#ifndef CCOE_SERVICES_CLI_GENERATE_H_
#define CCOE_SERVICES_CLI_GENERATE_H_

#include "services/cli/command.h"

namespace ccoe::cli {

void RegisterGenerate(CLI::App& app, CommandContext& context);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_GENERATE_H_
