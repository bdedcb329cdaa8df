// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/directory.h"

namespace ccoe::engine {

FfnTable::FfnTable(std::vector<FfnPeer> of, const Holders& holders) : peers(std::move(of)) {
  for (const auto& layer : holders) {
    first_expert_.push_back(first_expert_.back() + static_cast<int32_t>(layer.size()));
    for (const std::vector<int32_t>& expert : layer) {
      holders_.insert(holders_.end(), expert.begin(), expert.end());
      first_holder_.push_back(static_cast<int32_t>(holders_.size()));
    }
  }
}

}  // namespace ccoe::engine
