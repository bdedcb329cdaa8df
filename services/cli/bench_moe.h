// `ccoe bench moe`: what spreading FFN experts costs, and what batching them gains.
#ifndef CCOE_SERVICES_CLI_BENCH_MOE_H_
#define CCOE_SERVICES_CLI_BENCH_MOE_H_

#include "services/cli/command.h"

namespace ccoe::cli {

void RegisterBenchMoe(CLI::App& bench, CommandContext& context);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_BENCH_MOE_H_
