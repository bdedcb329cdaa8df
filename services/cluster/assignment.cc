#include "services/cluster/assignment.h"

#include <algorithm>
#include <cstddef>

namespace ccoe::services {

std::vector<std::vector<std::string>> AssignBundles(const std::vector<std::string>& bundles,
                                                    int workers) {
  if (bundles.empty() || workers < 1) return {};
  const auto count = static_cast<size_t>(workers);
  std::vector<std::vector<std::string>> held(count);
  for (size_t i = 0; i < std::max(bundles.size(), count); ++i) {
    held[i % count].push_back(bundles[i % bundles.size()]);
  }
  return held;
}

}  // namespace ccoe::services
