// `ccoe bench`: the speed of this machine's kernels and engine on a random model, against what the
// machine can do, measured in the same run. Below it: `memory` (one backbone with experts against
// full models), `moe` (FFN experts), `serve` (the load generator for a running server).
#ifndef CCOE_SERVICES_CLI_BENCH_H_
#define CCOE_SERVICES_CLI_BENCH_H_

#include "services/cli/command.h"

namespace ccoe::cli {

void RegisterBench(CLI::App& app, CommandContext& context);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_BENCH_H_
