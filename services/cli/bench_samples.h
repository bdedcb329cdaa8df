// What the benchmarks of decode and prefill share.
#ifndef CCOE_SERVICES_CLI_BENCH_SAMPLES_H_
#define CCOE_SERVICES_CLI_BENCH_SAMPLES_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "services/offline/offline_engine.h"
#include "services/offline/throughput.h"

namespace ccoe::cli {

// The upper one of two; 0 of none.
double Median(std::vector<double> values);

// `queries` of the base at once, each with `prompt` tokens and `tokens` new ones.
absl::StatusOr<services::Throughput> MeasureBase(services::OfflineEngine& offline, int64_t queries,
                                                 int64_t prompt, int64_t tokens);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_BENCH_SAMPLES_H_
