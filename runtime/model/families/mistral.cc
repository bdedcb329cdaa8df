#include <cstdint>

#include "runtime/base/status_macros.h"
#include "runtime/model/families/dense_config.h"
#include "runtime/model/families/families.h"
#include "runtime/model/families/limits.h"

namespace ccoe::model {

// sliding_window counts the row itself and holds in all layers; null means full attention, and a
// config that does not name it means 4096, as in the family's configuration class.
absl::StatusOr<ModelSpec> ParseMistral(const ConfigReader& config) {
  constexpr int64_t kDefaultWindow = 4096;
  DenseDefaults defaults;
  defaults.max_positions = 131072;
  CCOE_ASSIGN_OR_RETURN(ModelSpec spec, ParseDense(config, defaults));
  spec.family = "mistral";
  if (config.IsNull("sliding_window")) return spec;
  CCOE_ASSIGN_OR_RETURN(const int64_t window,
                        config.IntOr("sliding_window", 1, kMaxPositions, kDefaultWindow));
  for (LayerSpec& layer : spec.layers) layer.attention.sliding_window = window;
  return spec;
}

}  // namespace ccoe::model
