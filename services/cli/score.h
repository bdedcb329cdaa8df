// `ccoe score`: logits (and hidden states) of every prompt position, written as safetensors.
#ifndef CCOE_SERVICES_CLI_SCORE_H_
#define CCOE_SERVICES_CLI_SCORE_H_

#include "services/cli/command.h"

namespace ccoe::cli {

void RegisterScore(CLI::App& app, CommandContext& context);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_SCORE_H_
