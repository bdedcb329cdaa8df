// `ccoe bench serve`: puts a load on a running server and reports, in the terms of `vllm bench
// serve`, how it is served: latencies, throughput, refusals and errors, the worst gap between two
// tokens, and, against another run's record, whether the answers are the same bit for bit.
#ifndef CCOE_SERVICES_CLI_BENCH_SERVE_H_
#define CCOE_SERVICES_CLI_BENCH_SERVE_H_

#include "services/cli/command.h"

namespace ccoe::cli {

// Adds "serve" to the subcommand "bench".
void RegisterBenchServe(CLI::App& bench, CommandContext& context);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_BENCH_SERVE_H_
