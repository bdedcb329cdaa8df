// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/engine_cluster.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/cpu_ops.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/local/local_link.h"
#include "runtime/model/families/hf_config.h"
#include "runtime/model/weights.h"
#include "tests/testing/golden_model.h"

namespace ccoe::testing {

std::shared_ptr<const model::Weights> WeightsOn(TaggedDevice* device,
                                                std::shared_ptr<const model::Weights> weights) {
  model::WeightTarget target;
  target.device = device;
  return model::Weights::On(std::move(weights), target);
}

std::unique_ptr<kernels::Ops> OpsOver(TaggedDevice* device, ThreadTeam* team) {
  return device == nullptr ? kernels::MakeCpuOps(team) : MakeTaggedOps(device, team);
}

absl::StatusOr<engine::BackboneModel> GoldenBackbone(const std::string& name, int32_t held_layers,
                                                     TaggedDevice* device) {
  engine::BackboneModel backbone;
  const std::string folder = GoldenFolder(name);
  CCOE_ASSIGN_OR_RETURN(backbone.spec, model::LoadModelSpec(folder));
  CCOE_ASSIGN_OR_RETURN(auto mapped, model::Weights::Open(folder));
  const auto weights = WeightsOn(device, std::move(mapped));
  CCOE_ASSIGN_OR_RETURN(backbone.embedding, model::TokenEmbedding::Create(backbone.spec, weights));
  const int32_t last = held_layers < 0 ? backbone.spec.layer_count() : held_layers;
  CCOE_ASSIGN_OR_RETURN(backbone.decoder,
                        model::Decoder::Create(backbone.spec, {0, last}, weights));
  CCOE_ASSIGN_OR_RETURN(backbone.head, model::LmHead::Create(backbone.spec, weights));
  return backbone;
}

absl::StatusOr<std::shared_ptr<const engine::ExpertBinding>> MapDirectory::Find(
    const ExpertRef& expert) {
  absl::MutexLock lock(&mutex_);
  const auto found = bindings_.find(expert.name);
  if (found == bindings_.end())
    return absl::NotFoundError(absl::StrCat("no expert ", expert.ToString()));
  return found->second.front();
}

absl::StatusOr<std::shared_ptr<const engine::ExpertBinding>> MapDirectory::FindReplica(
    const engine::ExpertBinding& bound, const engine::LinkList& avoid) {
  absl::MutexLock lock(&mutex_);
  std::shared_ptr<const engine::ExpertBinding> best;
  for (const auto& binding : bindings_[bound.expert.name]) {
    const bool avoided = std::any_of(
        avoid.begin(), avoid.end(), [&](const auto& link) { return link.lock() == binding->link; });
    if (avoided || !binding->link->healthy()) continue;
    if (binding->link == bound.link) return binding;
    if (best == nullptr || binding->numerics == bound.numerics) best = binding;
  }
  if (best == nullptr) return absl::UnavailableError("no worker has it now");
  return best;
}

void MapDirectory::Add(std::shared_ptr<const engine::ExpertBinding> binding) {
  absl::MutexLock lock(&mutex_);
  bindings_[binding->expert.name].push_back(std::move(binding));
}

absl::StatusOr<std::unique_ptr<EngineCluster>> EngineCluster::Create(
    const EngineClusterOptions& options) {
  std::unique_ptr<EngineCluster> cluster(new EngineCluster());
  cluster->device_ = options.device;
  cluster->expert_kv_tokens_ = options.expert.kv_tokens;
  cluster->team_ = std::make_unique<ThreadTeam>(1);
  CCOE_ASSIGN_OR_RETURN(cluster->backbone_,
                        GoldenBackbone("ccoe/backbone", options.held_layers, options.device));
  experts::UnitHostOptions expert = options.expert;
  expert.ffn_experts = false;
  for (int i = 0; i < options.expert_workers; ++i) {
    CCOE_ASSIGN_OR_RETURN(auto host, experts::UnitHost::Create(
                                         cluster->backbone_.spec,
                                         OpsOver(options.device, cluster->team_.get()), expert));
    cluster->links_.push_back(std::make_shared<FakeLink>(
        options.connect ? options.connect(host.get()) : exchange::MakeLocalLink(host.get())));
    cluster->hosts_.push_back(std::move(host));
  }
  CCOE_ASSIGN_OR_RETURN(
      cluster->engine_,
      engine::Engine::Create(cluster->backbone_, OpsOver(options.device, cluster->team_.get()),
                             &cluster->directory_, nullptr, options.engine));
  return cluster;
}

EngineCluster::~EngineCluster() {
  engine_.reset();
  for (const auto& link : links_) link->Close();
}

absl::Status EngineCluster::AddExpert(const std::string& name, const std::string& source,
                                      model::LayerRange layers, int worker,
                                      const std::string& numerics) {
  experts::Bundle bundle;
  bundle.folder = GoldenFolder(absl::StrCat("ccoe/", source));
  bundle.manifest.expert = {name, 1};
  bundle.manifest.layers = layers;
  CCOE_ASSIGN_OR_RETURN(auto mapped, model::Weights::Open(bundle.folder));
  bundle.weights = WeightsOn(device_, std::move(mapped));
  CCOE_RETURN_IF_ERROR(hosts_[worker]->AddExpert(bundle));
  auto binding = std::make_shared<engine::ExpertBinding>();
  binding->expert = bundle.manifest.expert;
  binding->layers = layers;
  binding->link = links_[worker];
  binding->worker_id = absl::StrCat("expert-", worker);
  binding->numerics = numerics;
  binding->kv_tokens = expert_kv_tokens_;
  directory_.Add(std::move(binding));
  return absl::OkStatus();
}

engine::EngineRequest GreedyQuery(const std::vector<int32_t>& prompt, const std::string& expert,
                                  int64_t max_tokens) {
  engine::EngineRequest query;
  query.query_id = absl::StrCat("query for ", expert.empty() ? "the base" : expert);
  query.prompt = prompt;
  query.expert.name = expert;
  query.sampling.temperature = 0.0f;
  query.sampling.ignore_eos = true;
  query.sampling.max_tokens = max_tokens;
  return query;
}

}  // namespace ccoe::testing
