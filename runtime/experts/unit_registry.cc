// SPDX-License-Identifier: Apache-2.0
#include "runtime/experts/unit_registry.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/swap_result.h"

namespace ccoe::experts {
namespace {

using exchange::SwapError;
using exchange::SwapReason;

int64_t Bytes(const model::FfnExpertWeights& expert) {
  int64_t bytes = 0;
  for (const kernels::ConstMatrix& matrix : {expert.gate, expert.up, expert.down}) {
    bytes += matrix.rows * matrix.cols * static_cast<int64_t>(kernels::DTypeBytes(matrix.dtype));
  }
  return bytes;
}

}  // namespace

absl::Status UnitRegistry::NotHeld(const ExpertRef& expert) const {
  const std::string names = absl::StrJoin(experts_, ", ", [](std::string* out, const auto& entry) {
    absl::StrAppend(out, entry.first.ToString());
  });
  return absl::NotFoundError(absl::StrCat("expert ", expert.ToString(),
                                          " is not on this worker; it holds ",
                                          names.empty() ? "none" : names));
}

absl::Status UnitRegistry::CheckAbsent(const ExpertRef& expert) const {
  if (experts_.count(expert) == 0) return absl::OkStatus();
  return absl::AlreadyExistsError(absl::StrCat("expert ", expert.ToString(), " is loaded already"));
}

absl::Status UnitRegistry::Add(std::shared_ptr<LayerUnit> unit) {
  CCOE_RETURN_IF_ERROR(CheckAbsent(unit->expert()));
  const ExpertRef expert = unit->expert();
  experts_.emplace(expert, std::move(unit));
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<LayerUnit>> UnitRegistry::Remove(const ExpertRef& expert) {
  const auto found = experts_.find(expert);
  if (found == experts_.end()) return NotHeld(expert);
  std::shared_ptr<LayerUnit> unit = std::move(found->second);
  experts_.erase(found);
  return unit;
}

absl::StatusOr<UnitRegistry::BoundShard> UnitRegistry::Bind(const model::ModelSpec& spec,
                                                            const model::FfnShard& shard,
                                                            const model::Weights& weights) {
  CCOE_RETURN_IF_ERROR(shard.CheckWithin(spec));
  BoundShard bound;
  for (const auto& [layer, experts] : shard.layers()) {
    for (const int32_t expert : experts) {
      CCOE_ASSIGN_OR_RETURN(bound[layer][expert],
                            model::BindFfnExpert(spec, layer, expert, weights));
    }
  }
  return bound;
}

void UnitRegistry::Add(const BoundShard& shard, std::shared_ptr<const model::Weights> weights) {
  for (const auto& [layer, experts] : shard) {
    auto held = ffn_experts_[layer] == nullptr
                    ? std::make_shared<FfnExperts>(spec_.layers[layer].ffn.moe.experts)
                    : std::make_shared<FfnExperts>(*ffn_experts_[layer]);
    for (const auto& [expert, views] : experts) {
      if (ffn_.shard.Contains(layer, expert)) continue;
      (*held)[expert] = views;
      ffn_.shard.Add(layer, expert);
      ffn_.weight_bytes += Bytes(views);
    }
    ffn_experts_[layer] = std::move(held);
  }
  ffn_weights_.push_back(std::move(weights));
}

absl::Status UnitRegistry::CheckLayers(const exchange::LayerSwap& swap) const {
  const auto found = experts_.find(swap.expert);
  if (found == experts_.end()) {
    return SwapError(SwapReason::kUnknownExpert, NotHeld(swap.expert).message());
  }
  const model::LayerRange layers = found->second->layers();
  if (layers == swap.layers) return absl::OkStatus();
  return SwapError(
      SwapReason::kInvalid,
      absl::StrCat("layers of expert ", swap.expert.ToString(), ": expected [", layers.first, ", ",
                   layers.last, "), found [", swap.layers.first, ", ", swap.layers.last, ")"));
}

absl::Status UnitRegistry::CheckFfn(const exchange::FfnSwap& swap) const {
  if (swap.layer >= spec_.layer_count() || !spec_.layers[swap.layer].ffn.is_moe()) {
    return SwapError(SwapReason::kInvalid,
                     absl::StrCat("layer ", swap.layer, " of the model has no FFN experts"));
  }
  const FfnExperts* held = ffn_experts_[swap.layer].get();
  for (const int32_t expert : swap.experts) {
    if (held != nullptr && expert < static_cast<int64_t>(held->size()) &&
        !(*held)[expert].gate.empty()) {
      continue;
    }
    return SwapError(SwapReason::kUnknownExpert,
                     absl::StrCat("layer ", swap.layer, " FFN expert ", expert,
                                  " is not on this worker; it holds ",
                                  ffn_.shard.empty() ? "none" : ffn_.shard.ToString()));
  }
  return absl::OkStatus();
}

absl::Status UnitRegistry::Check(const exchange::SwapHeader& header) const {
  const absl::Status held =
      header.ffn() != nullptr ? CheckFfn(*header.ffn()) : CheckLayers(*header.layer());
  return held.ok() ? held : Annotate(held, absl::StrCat("swap ", header.id));
}

void UnitRegistry::CountFfnPass(absl::Span<const WaitingSwap> swaps) {
  ++ffn_.batches;
  for (const WaitingSwap& swap : swaps) {
    ++ffn_.swaps;
    ffn_.rows += swap.ffn().rows();
    ffn_.pairs += swap.ffn().pairs();
  }
}

void UnitRegistry::Release(uint64_t peer_id, uint64_t sequence_id) {
  for (auto& [expert, unit] : experts_) unit->kv().Release(peer_id, sequence_id);
}

void UnitRegistry::ReleasePeer(uint64_t peer_id) {
  for (auto& [expert, unit] : experts_) unit->kv().ReleasePeer(peer_id);
}

HostLoad UnitRegistry::Load(const UnitQueue& queue) const {
  HostLoad load;
  load.waiting_swaps = queue.waiting_swaps();
  load.waiting_rows = queue.waiting_rows();
  load.waiting_bytes = queue.waiting_bytes();
  load.ffn = ffn_;
  load.ffn.waiting_rows = load.waiting_rows;
  for (const auto& [expert, unit] : experts_) {
    ExpertLoad& each = load.experts.emplace_back(unit->Load());
    each.waiting_rows = queue.waiting_rows({expert, -1});
    load.ffn.waiting_rows -= each.waiting_rows;
  }
  return load;
}

}  // namespace ccoe::experts
