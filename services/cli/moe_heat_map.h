// Layers x experts as a picture: how much of its layer's work each FFN expert gets.
#ifndef CCOE_SERVICES_CLI_MOE_HEAT_MAP_H_
#define CCOE_SERVICES_CLI_MOE_HEAT_MAP_H_

#include <string>

#include "runtime/engine/moe_statistics.h"

namespace ccoe::cli {

// An SVG document, readable on light and on dark ground (it follows the viewer's preference): a row
// a layer, a cell an expert, coloured by its tokens as a multiple of an even share; layers with
// their balancedness, a legend, and the counts of a cell as its tooltip.
std::string MoeHeatMap(const engine::MoeSnapshot& snapshot);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_MOE_HEAT_MAP_H_
