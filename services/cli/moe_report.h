// What gates chose, for people and for programs.
#ifndef CCOE_SERVICES_CLI_MOE_REPORT_H_
#define CCOE_SERVICES_CLI_MOE_REPORT_H_

#include <string>

#include "runtime/engine/moe_statistics.h"

namespace ccoe::cli {

// A line for each layer (rows, balancedness, hottest and coldest expert, the pair chosen together
// most), then the `top` hottest experts of all layers.
std::string MoeTable(const engine::MoeSnapshot& snapshot, int top);

// {"layers": [{"layer": 3, "rows": 100, "tokens": [..], "balancedness": 0.8, "co_activation":
// [[..], ..]}, ..]}: tokens[e] rows chose expert e, co_activation[a][b] chose both a and b
// (symmetric, tokens on the diagonal); without co_activation where pairs are not known.
std::string MoeJson(const engine::MoeSnapshot& snapshot);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_MOE_REPORT_H_
