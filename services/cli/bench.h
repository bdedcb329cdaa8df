// `ccoe bench`: the speed of this machine's kernels and engine on a random model, against what the
// machine can do, measured in the same run. `ccoe bench memory`: the memory of one backbone with
// experts against full models.
#ifndef CCOE_SERVICES_CLI_BENCH_H_
#define CCOE_SERVICES_CLI_BENCH_H_

#include "services/cli/command.h"

namespace ccoe::cli {

void RegisterBench(CLI::App& app, CommandContext& context);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_BENCH_H_
