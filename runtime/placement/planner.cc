// SPDX-License-Identifier: Apache-2.0
#include "runtime/placement/planner.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <queue>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/base/status_macros.h"
#include "runtime/placement/expert_demand.h"
#include "runtime/placement/layer_deal.h"
#include "runtime/placement/plan.h"

namespace ccoe::placement {
namespace {

struct LayerOfPlan {
  int32_t layer = 0;
  int64_t expert_bytes = 0;
  std::vector<double> shares;
  std::vector<int32_t> copies;

  int64_t items() const { return std::accumulate(copies.begin(), copies.end(), int64_t{0}); }
  int64_t bytes() const { return items() * expert_bytes; }
};

class Planner {
 public:
  Planner(const model::ModelSpec& spec, const PlanOptions& options)
      : spec_(spec), options_(options), loads_(options.workers.size(), 0.0) {}

  absl::StatusOr<Plan> Make() {
    CCOE_RETURN_IF_ERROR(ReadLayers());
    CCOE_RETURN_IF_ERROR(MeasureRoom());
    AddExtraCopies();
    SetTargets();
    Plan plan;
    for (const PlannedWorker& worker : options_.workers) {
      plan.workers.push_back({worker.worker_id, worker.memory_budget_bytes, {}});
    }
    for (const LayerOfPlan& layer : layers_) CCOE_RETURN_IF_ERROR(PlaceLayer(layer, &plan));
    return plan;
  }

 private:
  int64_t TotalBytes() const {
    int64_t bytes = 0;
    for (const LayerOfPlan& layer : layers_) bytes += layer.bytes();
    return bytes;
  }

  absl::Status ReadLayers() {
    for (int32_t i = 0; i < spec_.layer_count(); ++i) {
      const model::FfnSpec& ffn = spec_.layers[static_cast<size_t>(i)].ffn;
      if (!ffn.is_moe()) continue;
      LayerOfPlan& layer = layers_.emplace_back();
      layer.layer = i;
      layer.expert_bytes = ExpertBytes(spec_, i, options_.dtype);
      layer.shares = options_.loads.Shares(spec_, i);
      layer.copies.assign(static_cast<size_t>(ffn.moe.experts), options_.copies);
    }
    if (!layers_.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        "a placement is for a model with FFN experts; this model has none");
  }

  // What each worker can take at most: no worker can use room for more than one copy of everything.
  absl::Status MeasureRoom() {
    const ShardSize one_copy = SizeOf(spec_, model::FfnShard::All(spec_), options_.dtype);
    const bool uniform = one_copy.experts_of_bytes.size() == 1;
    const int64_t unit = uniform ? one_copy.experts_of_bytes.begin()->first : 1;
    int64_t sum = 0;
    for (const PlannedWorker& worker : options_.workers) {
      const int64_t budget = worker.memory_budget_bytes;
      const int64_t room = budget == 0 ? one_copy.bytes() : std::min(budget, one_copy.bytes());
      room_.push_back(room / unit * unit);
      sum += room_.back();
    }
    if (sum >= TotalBytes()) return absl::OkStatus();
    return absl::ResourceExhaustedError(absl::StrCat(
        "the FFN experts do not fit: ", options_.copies,
        options_.copies == 1 ? " copy of " : " copies of ", one_copy.ToString(), " need ",
        TotalBytes(), " bytes; the workers hold ", absl::StrJoin(room_, " + "), " = ", sum,
        " bytes", uniform ? absl::StrCat(" (whole experts of ", unit, " bytes)") : "", ": ",
        TotalBytes() - sum, " bytes are missing"));
  }

  // The copy with the largest load gets a sibling, as long as there is room.
  void AddExtraCopies() {
    const int64_t room = std::accumulate(room_.begin(), room_.end(), int64_t{0}) - TotalBytes();
    const double wanted = options_.extra_memory * static_cast<double>(TotalBytes()) /
                          static_cast<double>(options_.copies);
    int64_t left = std::min(room, static_cast<int64_t>(wanted));
    // Load of one copy, then the lower layer and expert.
    using Entry = std::tuple<double, int64_t, int64_t>;
    std::priority_queue<Entry> hottest;
    const auto push = [&](size_t layer, size_t expert) {
      const LayerOfPlan& at = layers_[layer];
      if (at.copies[expert] >= static_cast<int32_t>(room_.size())) return;
      hottest.emplace(at.shares[expert] / at.copies[expert], -static_cast<int64_t>(layer),
                      -static_cast<int64_t>(expert));
    };
    for (size_t layer = 0; layer < layers_.size(); ++layer) {
      for (size_t expert = 0; expert < layers_[layer].copies.size(); ++expert) push(layer, expert);
    }
    while (!hottest.empty()) {
      const auto layer = static_cast<size_t>(-std::get<1>(hottest.top()));
      const auto expert = static_cast<size_t>(-std::get<2>(hottest.top()));
      hottest.pop();
      if (layers_[layer].expert_bytes > left) continue;
      left -= layers_[layer].expert_bytes;
      ++layers_[layer].copies[expert];
      push(layer, expert);
    }
  }

  // Equal parts of the bytes, where budgets allow: the smallest rooms are filled, the others share
  // the rest.
  void SetTargets() {
    std::vector<size_t> order(room_.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return room_[a] < room_[b]; });
    targets_.assign(room_.size(), 0.0);
    auto left = static_cast<double>(TotalBytes());
    for (size_t i = 0; i < order.size(); ++i) {
      const double part = left / static_cast<double>(order.size() - i);
      targets_[order[i]] = std::min(part, static_cast<double>(room_[order[i]]));
      left -= targets_[order[i]];
    }
  }

  int64_t LimitOf(size_t worker, const LayerOfPlan& layer) const {
    return std::min(static_cast<int64_t>(layer.copies.size()), room_[worker] / layer.expert_bytes);
  }

  // How many copies of the layer each worker gets: its part of what is left of its target, the
  // remainders to those that are the furthest behind.
  absl::StatusOr<std::vector<int64_t>> Quotas(const LayerOfPlan& layer) const {
    const double total = std::accumulate(targets_.begin(), targets_.end(), 0.0);
    const auto items = static_cast<double>(layer.items());
    std::vector<int64_t> quotas(room_.size(), 0);
    int64_t left = layer.items();
    for (size_t w = 0; w < quotas.size() && total > 0; ++w) {
      const auto ideal = static_cast<int64_t>(std::floor(items * targets_[w] / total + 1e-9));
      quotas[w] = std::min({ideal, LimitOf(w, layer), left});
      left -= quotas[w];
    }
    for (; left > 0; --left) {
      size_t best = quotas.size();
      double best_behind = 0;
      for (size_t w = 0; w < quotas.size(); ++w) {
        if (quotas[w] >= LimitOf(w, layer)) continue;
        const double behind = targets_[w] - static_cast<double>(quotas[w] * layer.expert_bytes);
        if (best < quotas.size() && behind <= best_behind + 1e-6) continue;
        best = w;
        best_behind = behind;
      }
      if (best == quotas.size()) return NoRoom(layer);
      ++quotas[best];
    }
    CCOE_RETURN_IF_ERROR(MakeDealable(layer, &quotas));
    return quotas;
  }

  // Copies of one expert need different workers: evens the quotas out until they have them.
  absl::Status MakeDealable(const LayerOfPlan& layer, std::vector<int64_t>* quotas) const {
    while (!CanDeal(layer.copies, *quotas)) {
      const size_t most =
          static_cast<size_t>(std::max_element(quotas->begin(), quotas->end()) - quotas->begin());
      size_t least = quotas->size();
      for (size_t w = 0; w < quotas->size(); ++w) {
        if ((*quotas)[w] >= LimitOf(w, layer) || (*quotas)[w] + 1 >= (*quotas)[most]) continue;
        if (least == quotas->size() || (*quotas)[w] < (*quotas)[least]) least = w;
      }
      if (least == quotas->size()) return NoRoom(layer);
      --(*quotas)[most];
      ++(*quotas)[least];
    }
    return absl::OkStatus();
  }

  absl::Status NoRoom(const LayerOfPlan& layer) const {
    std::vector<std::string> rooms;
    for (size_t w = 0; w < room_.size(); ++w) {
      rooms.push_back(absl::StrCat(options_.workers[w].worker_id, " ", LimitOf(w, layer)));
    }
    return absl::ResourceExhaustedError(
        absl::StrCat("layer ", layer.layer, ": ", layer.items(), " copies of its ",
                     layer.copies.size(), " FFN experts (", layer.expert_bytes,
                     " bytes each, copies of one expert on different workers) do not fit what the "
                     "budgets leave: ",
                     absl::StrJoin(rooms, ", "), " experts"));
  }

  absl::Status PlaceLayer(const LayerOfPlan& layer, Plan* plan) {
    CCOE_ASSIGN_OR_RETURN(const std::vector<int64_t> quotas, Quotas(layer));
    const auto holders = Deal({layer.shares, layer.copies, quotas, loads_});
    for (size_t expert = 0; expert < holders.size(); ++expert) {
      for (const int32_t worker : holders[expert]) {
        const auto w = static_cast<size_t>(worker);
        plan->workers[w].shard.Add(layer.layer, static_cast<int32_t>(expert));
        loads_[w] += layer.shares[expert] / static_cast<double>(holders[expert].size());
      }
    }
    for (size_t w = 0; w < quotas.size(); ++w) {
      const int64_t bytes = quotas[w] * layer.expert_bytes;
      room_[w] -= bytes;
      targets_[w] = std::max(0.0, targets_[w] - static_cast<double>(bytes));
    }
    return absl::OkStatus();
  }

  const model::ModelSpec& spec_;
  const PlanOptions& options_;
  std::vector<LayerOfPlan> layers_;
  // Of each worker, going down as layers are placed: bytes it can still take, and shall.
  std::vector<int64_t> room_;
  std::vector<double> targets_;
  std::vector<double> loads_;  // of each worker, over the layers placed so far
};

absl::Status CheckOptions(const model::ModelSpec& spec, const PlanOptions& options) {
  if (options.workers.empty()) {
    return absl::InvalidArgumentError("a placement needs at least one worker, found none");
  }
  Plan workers;
  for (const PlannedWorker& worker : options.workers) {
    workers.workers.push_back({worker.worker_id, worker.memory_budget_bytes, {}});
  }
  CCOE_RETURN_IF_ERROR(CheckWorkers(workers));
  if (options.copies < 1 || options.copies > static_cast<int>(options.workers.size())) {
    return absl::InvalidArgumentError(absl::StrCat("copies of every expert: expected 1 to ",
                                                   options.workers.size(), ", one a worker, found ",
                                                   options.copies));
  }
  if (!std::isfinite(options.extra_memory) || options.extra_memory < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "extra memory for replicas: expected a share, 0 or more, found ", options.extra_memory));
  }
  return CheckLoads(options.loads, spec);
}

}  // namespace

absl::StatusOr<Plan> MakePlan(const model::ModelSpec& spec, const PlanOptions& options) {
  CCOE_RETURN_IF_ERROR(CheckOptions(spec, options));
  return Planner(spec, options).Make();
}

}  // namespace ccoe::placement
