// `ccoe eval`: asks the running cluster test questions whose answers are known.
#ifndef CCOE_SERVICES_CLI_EVAL_H_
#define CCOE_SERVICES_CLI_EVAL_H_

#include "services/cli/command.h"

namespace ccoe::cli {

void RegisterEval(CLI::App& app, CommandContext& context);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_EVAL_H_
