// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/moe_cluster.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/local/local_link.h"
#include "runtime/model/ffn_shard.h"
#include "runtime/model/weights.h"
#include "tests/testing/golden_model.h"

namespace ccoe::testing {

absl::StatusOr<std::unique_ptr<MoeCluster>> MoeCluster::Create(const MoeClusterOptions& options) {
  std::unique_ptr<MoeCluster> cluster(new MoeCluster());
  cluster->team_ = std::make_unique<ThreadTeam>(1);
  CCOE_ASSIGN_OR_RETURN(cluster->backbone_, GoldenBackbone(options.model, -1, options.device));
  const model::ModelSpec& spec = cluster->backbone_.spec;
  const auto holders_of = [&](int32_t layer, int32_t expert) -> std::vector<int32_t> {
    if (options.workers == 0) return {engine::FfnTable::kHere};
    if (options.holders) return options.holders(layer, expert);
    return {expert % options.workers};
  };
  engine::FfnTable::Holders holders;
  std::vector<engine::FfnPeer> peers;
  std::vector<model::FfnShard> shards(static_cast<size_t>(options.workers));
  for (int32_t layer = 0; layer < spec.layer_count(); ++layer) {
    auto& experts = holders.emplace_back();
    const model::FfnSpec& ffn = spec.layers[static_cast<size_t>(layer)].ffn;
    for (int32_t e = 0; ffn.is_moe() && e < ffn.moe.experts; ++e) {
      experts.push_back(holders_of(layer, e));
      for (const int32_t worker : experts.back()) {
        if (worker != engine::FfnTable::kHere) shards[static_cast<size_t>(worker)].Add(layer, e);
      }
    }
  }
  CCOE_ASSIGN_OR_RETURN(auto mapped, model::Weights::Open(GoldenFolder(options.model)));
  const auto weights = WeightsOn(options.device, std::move(mapped));
  experts::UnitHostOptions expert;
  expert.layer_experts = false;
  for (const model::FfnShard& shard : shards) {
    CCOE_ASSIGN_OR_RETURN(
        auto host,
        experts::UnitHost::Create(spec, OpsOver(options.device, cluster->team_.get()), expert));
    CCOE_RETURN_IF_ERROR(host->AddShard(shard, weights));
    cluster->links_.push_back(std::make_shared<FakeLink>(
        options.connect ? options.connect(host.get()) : exchange::MakeLocalLink(host.get())));
    cluster->hosts_.push_back(std::move(host));
    peers.push_back({absl::StrCat("expert-", peers.size()), cluster->links_.back()});
  }
  cluster->directory_.Set(std::make_shared<engine::FfnTable>(std::move(peers), holders));
  CCOE_ASSIGN_OR_RETURN(
      cluster->engine_,
      engine::Engine::Create(cluster->backbone_, OpsOver(options.device, cluster->team_.get()),
                             nullptr, &cluster->directory_, options.engine));
  return cluster;
}

MoeCluster::~MoeCluster() {
  engine_.reset();
  for (const auto& link : links_) link->Close();
}

}  // namespace ccoe::testing
