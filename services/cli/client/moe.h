// SPDX-License-Identifier: Apache-2.0
// `ccoe moe stats`: what the gates of a running mixture-of-experts model choose, for people and for
// programs.
#ifndef CCOE_SERVICES_CLI_CLIENT_MOE_H_
#define CCOE_SERVICES_CLI_CLIENT_MOE_H_

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

// Layers x experts as a picture: how much of its layer's work each FFN expert gets.
// An SVG document, readable on light and on dark ground (it follows the viewer's preference): a row
// a layer, a cell an expert, coloured by its tokens as a multiple of an even share; layers with
// their balancedness, a legend, and the counts of a cell as its tooltip.
std::string MoeHeatMap(const engine::MoeSnapshot& snapshot);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_CLIENT_MOE_H_
