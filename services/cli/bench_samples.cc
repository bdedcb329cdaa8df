#include "services/cli/bench_samples.h"

#include <algorithm>

namespace ccoe::cli {

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0.0 : values[values.size() / 2];
}

absl::StatusOr<services::Throughput> MeasureBase(services::OfflineEngine& offline, int64_t queries,
                                                 int64_t prompt, int64_t tokens) {
  services::LoadShape load;
  load.queries = queries;
  load.prompt_tokens = prompt;
  load.new_tokens = tokens;
  return services::MeasureThroughput(offline.engine(), offline.spec(), load);
}

}  // namespace ccoe::cli
