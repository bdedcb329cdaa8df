// `ccoe bench memory`.
#ifndef CCOE_SERVICES_CLI_BENCH_MEMORY_H_
#define CCOE_SERVICES_CLI_BENCH_MEMORY_H_

#include "services/cli/command.h"

namespace ccoe::cli {

// Adds "memory" below `bench`.
void RegisterBenchMemory(CLI::App& bench, CommandContext& context);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_BENCH_MEMORY_H_
