#include "services/cli/placement_report.h"

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "ccoe/v1/placement.pb.h"
#include "runtime/placement/expert_demand.h"
#include "runtime/placement/plan.h"
#include "services/cli/byte_size.h"

namespace ccoe::cli {
namespace {

struct Shares {
  double backbone = 0;
  std::vector<double> workers;
};

// Of all MoE layers' load, each layer counting the same.
Shares SharesOf(const PlacementView& view) {
  Shares shares;
  shares.workers.assign(view.plan.workers.size(), 0.0);
  const model::FfnShard all = model::FfnShard::All(view.spec);
  const auto layers = static_cast<double>(all.layers().size());
  for (const auto& [layer, experts] : all.layers()) {
    const std::vector<double> of_layer = view.loads.Shares(view.spec, layer);
    for (const int32_t expert : experts) {
      const double share = of_layer[static_cast<size_t>(expert)] / layers;
      if (view.plan.with_backbone.Contains(layer, expert)) {
        shares.backbone += share;
        continue;
      }
      std::vector<size_t> holders;
      for (size_t w = 0; w < view.plan.workers.size(); ++w) {
        if (view.plan.workers[w].shard.Contains(layer, expert)) holders.push_back(w);
      }
      for (const size_t w : holders) {
        shares.workers[w] += share / static_cast<double>(holders.size());
      }
    }
  }
  return shares;
}

std::string Line(const std::string& name, const model::FfnShard& shard, int64_t budget, double load,
                 const PlacementView& view) {
  return absl::StrFormat("%-16s %8d %10s %10s %7.1f %%  %s\n", name, shard.size(),
                         ByteSizeText(placement::SizeOf(view.spec, shard, view.dtype).bytes()),
                         budget > 0 ? ByteSizeText(budget) : "none", 100 * load, shard.ToString());
}

// Of a PlacedWorker or PlacedBackbone.
template <typename Placed>
nlohmann::json Holder(const Placed& placed, const model::FfnShard& shard, double load,
                      const PlacementView& view) {
  nlohmann::json shards = nlohmann::json::array();
  for (const v1::PlacedShard& line : placed.shards()) {
    shards.push_back({{"layers", line.layers()}, {"experts", line.experts()}});
  }
  return {{"experts", shard.size()},
          {"bytes", placement::SizeOf(view.spec, shard, view.dtype).bytes()},
          {"load", load},
          {"shards", shards}};
}

}  // namespace

std::string PlacementTable(const PlacementView& view) {
  const Shares shares = SharesOf(view);
  std::string table =
      "worker            experts      bytes     budget      load  layers: experts\n";
  for (size_t w = 0; w < view.plan.workers.size(); ++w) {
    const placement::WorkerPlan& worker = view.plan.workers[w];
    absl::StrAppend(&table, Line(worker.worker_id, worker.shard, worker.memory_budget_bytes,
                                 shares.workers[w], view));
  }
  if (!view.plan.with_backbone.empty()) {
    absl::StrAppend(&table,
                    Line("(with backbone)", view.plan.with_backbone, 0, shares.backbone, view));
  }
  return table;
}

nlohmann::json PlacementJson(const PlacementView& view) {
  const Shares shares = SharesOf(view);
  const v1::PlacementPlan proto = placement::PlanToProto(view.plan);
  nlohmann::json workers = nlohmann::json::array();
  for (size_t w = 0; w < view.plan.workers.size(); ++w) {
    const placement::WorkerPlan& worker = view.plan.workers[w];
    nlohmann::json entry =
        Holder(proto.workers(static_cast<int>(w)), worker.shard, shares.workers[w], view);
    entry["worker_id"] = worker.worker_id;
    entry["memory_budget_bytes"] = worker.memory_budget_bytes;
    workers.push_back(std::move(entry));
  }
  return {{"model_fingerprint", view.plan.model_fingerprint},
          {"workers", workers},
          {"with_backbone",
           Holder(proto.with_backbone(), view.plan.with_backbone, shares.backbone, view)}};
}

}  // namespace ccoe::cli
