#include "services/backbone/ffn_table.h"

#include <cstddef>
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
      table.gone[{layer, expert}] =
          absl::StrCat("expert worker ", holder.worker_id, ": ", holder.why);
    }
  }
}

}  // namespace

std::shared_ptr<const engine::FfnTable> BuildFfnTable(const model::FfnShard& all,
                                                      const model::FfnShard& here,
                                                      const std::vector<FfnHolder>& holders,
                                                      const std::vector<GoneFfnHolder>& gone) {
  Holders by_expert;
  for (const auto& [layer, experts] : all.layers()) {
    if (by_expert.size() <= static_cast<size_t>(layer)) {
      by_expert.resize(static_cast<size_t>(layer) + 1);
    }
    by_expert[static_cast<size_t>(layer)].resize(static_cast<size_t>(*experts.rbegin()) + 1);
  }
  AddHolder(here, all, engine::FfnTable::kHere, &by_expert);
  std::vector<engine::FfnPeer> peers;
  for (const FfnHolder& holder : holders) {
    const auto index = static_cast<int32_t>(peers.size());
    if (!AddHolder(holder.shard, all, index, &by_expert)) continue;
    peers.push_back({holder.worker_id, holder.link});
  }
  auto table = std::make_shared<engine::FfnTable>(std::move(peers), by_expert);
  for (const GoneFfnHolder& holder : gone) AddGone(holder, all, *table);
  return table;
}

}  // namespace ccoe::services
