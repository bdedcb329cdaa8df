// SPDX-License-Identifier: Apache-2.0
#include "services/backbone/ffn_table.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ccoe::services {
namespace {

using Holders = engine::FfnTable::Holders;

// Adds `holder` to the experts of `shard` that are in `all`; whether there are any.
bool AddHolder(const model::FfnShard& shard, const model::FfnShard& all, int32_t holder,
               Holders* holders) {
  bool any = false;
  for (const auto& [layer, experts] : shard.layers()) {
    for (const int32_t expert : experts) {
      if (!all.Contains(layer, expert)) continue;
      (*holders)[static_cast<size_t>(layer)][static_cast<size_t>(expert)].push_back(holder);
      any = true;
    }
  }
  return any;
}

// Names `holder` at those of its experts that are nowhere.
void AddGone(const GoneFfnHolder& holder, const model::FfnShard& all, engine::FfnTable& table) {
  for (const auto& [layer, experts] : holder.shard.layers()) {
    for (const int32_t expert : experts) {
      if (!all.Contains(layer, expert)) continue;
      if (!table.HoldersOf(layer, expert).empty()) continue;
      std::string& held_by = table.gone[{layer, expert}];
      absl::StrAppend(&held_by, held_by.empty() ? "" : ", ", "expert worker ", holder.worker_id,
                      " (", holder.why, ")");
    }
  }
}

// Leaves one numerics class among an expert's holders.
void KeepOneClass(const std::vector<std::string>& classes, const std::string& best,
                  std::vector<int32_t>& holders) {
  const auto class_of = [&](int32_t holder) -> const std::string& {
    return holder == engine::FfnTable::kHere ? best : classes[static_cast<size_t>(holder)];
  };
  if (holders.size() < 2) return;
  const std::string* kept = &class_of(holders.front());
  for (const int32_t holder : holders) {
    const std::string& other = class_of(holder);
    if (*kept != best && (other == best || other < *kept)) kept = &other;
  }
  const std::string keep = *kept;
  holders.erase(std::remove_if(holders.begin(), holders.end(),
                               [&](int32_t holder) { return class_of(holder) != keep; }),
                holders.end());
}

}  // namespace

std::shared_ptr<const engine::FfnTable> BuildFfnTable(const model::FfnShard& all,
                                                      const model::FfnShard& here,
                                                      const std::vector<FfnHolder>& holders,
                                                      const std::vector<GoneFfnHolder>& gone,
                                                      const std::string& numerics) {
  Holders by_expert;
  for (const auto& [layer, experts] : all.layers()) {
    if (by_expert.size() <= static_cast<size_t>(layer)) {
      by_expert.resize(static_cast<size_t>(layer) + 1);
    }
    by_expert[static_cast<size_t>(layer)].resize(static_cast<size_t>(*experts.rbegin()) + 1);
  }
  AddHolder(here, all, engine::FfnTable::kHere, &by_expert);
  std::vector<engine::FfnPeer> peers;
  std::vector<std::string> classes;  // by peer
  for (const FfnHolder& holder : holders) {
    const auto index = static_cast<int32_t>(peers.size());
    if (!AddHolder(holder.shard, all, index, &by_expert)) continue;
    peers.push_back({holder.worker_id, holder.link});
    classes.push_back(holder.numerics);
  }
  for (auto& layer : by_expert) {
    for (auto& of_expert : layer) KeepOneClass(classes, numerics, of_expert);
  }
  auto table = std::make_shared<engine::FfnTable>(std::move(peers), by_expert);
  for (const GoneFfnHolder& holder : gone) AddGone(holder, all, *table);
  return table;
}

}  // namespace ccoe::services
