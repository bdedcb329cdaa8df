// SPDX-License-Identifier: Apache-2.0
// The units that a worker holds: layer experts by name and version, FFN experts by layer and
// number. Both are handed out shared: a pass keeps what it began with.
#ifndef CCOE_RUNTIME_EXPERTS_UNIT_REGISTRY_H_
#define CCOE_RUNTIME_EXPERTS_UNIT_REGISTRY_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/base/ids.h"
#include "runtime/exchange/envelope.h"
#include "runtime/experts/layer_unit.h"
#include "runtime/experts/unit_queue.h"
#include "runtime/model/ffn.h"
#include "runtime/model/ffn_shard.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"

namespace ccoe::experts {

struct FfnLoad {
  model::FfnShard shard;
  int64_t weight_bytes = 0;
  int64_t waiting_rows = 0;
  int64_t swaps = 0, rows = 0, pairs = 0, batches = 0;  // that went through passes, since start
};

struct HostLoad {
  std::vector<ExpertLoad> experts;  // layer experts, by name and version
  FfnLoad ffn;
  int64_t waiting_swaps = 0, waiting_rows = 0, waiting_bytes = 0;  // of both kinds
};

// Not thread-safe; FFN experts that were handed out are immutable.
class UnitRegistry {
 public:
  // Of one layer, by number; those that are not held have empty views.
  using FfnExperts = std::vector<model::FfnExpertWeights>;
  // Checked tensors, by layer and number.
  using BoundShard = std::map<int32_t, std::map<int32_t, model::FfnExpertWeights>>;

  explicit UnitRegistry(const model::ModelSpec& spec)
      : spec_(spec), ffn_experts_(spec.layers.size()) {}

  // ALREADY_EXISTS where this version is there.
  absl::Status CheckAbsent(const ExpertRef& expert) const;
  absl::Status Add(std::shared_ptr<LayerUnit> unit);
  // Takes the name away and gives the handle back. NOT_FOUND.
  absl::StatusOr<std::shared_ptr<LayerUnit>> Remove(const ExpertRef& expert);

  // Compares names, shapes and dtypes with the config; reads no tensor. Errors name the tensor.
  static absl::StatusOr<BoundShard> Bind(const model::ModelSpec& spec, const model::FfnShard& shard,
                                         const model::Weights& weights);
  // What is held already is passed over. `weights`, which `shard` views, is kept alive.
  void Add(const BoundShard& shard, std::shared_ptr<const model::Weights> weights);

  // kUnknownExpert names what is not held; kInvalid for other layers than the expert's, for a layer
  // without FFN experts.
  absl::Status Check(const exchange::SwapHeader& header) const;

  // Of swaps that passed Check.
  std::shared_ptr<LayerUnit> Layers(const ExpertRef& expert) const { return experts_.at(expert); }
  std::shared_ptr<const FfnExperts> Ffn(int32_t layer) const { return ffn_experts_[layer]; }
  void CountFfnPass(absl::Span<const WaitingSwap> swaps);

  // Frees KV at all experts.
  void Release(uint64_t peer_id, uint64_t sequence_id);
  void ReleasePeer(uint64_t peer_id);

  HostLoad Load(const UnitQueue& queue) const;

 private:
  absl::Status NotHeld(const ExpertRef& expert) const;
  absl::Status CheckLayers(const exchange::LayerSwap& swap) const;
  absl::Status CheckFfn(const exchange::FfnSwap& swap) const;

  const model::ModelSpec& spec_;
  std::map<ExpertRef, std::shared_ptr<LayerUnit>> experts_;
  // By layer; null where nothing is held. Replaced where experts are added, never changed.
  std::vector<std::shared_ptr<const FfnExperts>> ffn_experts_;
  std::vector<std::shared_ptr<const model::Weights>> ffn_weights_;
  FfnLoad ffn_;
};

}  // namespace ccoe::experts

#endif  // CCOE_RUNTIME_EXPERTS_UNIT_REGISTRY_H_
