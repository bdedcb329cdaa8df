// SPDX-License-Identifier: Apache-2.0
#include "services/offline/offline_engine.h"

#include <algorithm>
#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "kernels/numerics_class.h"
#include "runtime/base/parallel.h"
#include "runtime/base/status_macros.h"
#include "runtime/engine/model_runner.h"
#include "runtime/exchange/grpc/exchange_service.h"
#include "runtime/exchange/grpc/grpc_link.h"
#include "runtime/exchange/local/local_link.h"
#include "runtime/experts/bundle.h"
#include "runtime/experts/unit_host.h"
#include "runtime/model/families/hf_config.h"
#include "runtime/placement/planner.h"
#include "services/backbone/load_backbone.h"
#include "services/common/channel_factory.h"
#include "services/common/server_runner.h"
#include "services/expert/load_experts.h"

namespace ccoe::services {
namespace {

constexpr int kMaxExpertWorkers = 64;

// Which links lead to which expert. Filled before the engine starts; Find takes them in turn.
// Thread-safe then.
class FixedDirectory final : public engine::ExpertDirectory {
 public:
  void Add(engine::ExpertBinding binding) {
    const ExpertRef expert = binding.expert;
    bindings_[expert].push_back(std::make_shared<engine::ExpertBinding>(std::move(binding)));
  }

  absl::StatusOr<std::shared_ptr<const engine::ExpertBinding>> Find(
      const ExpertRef& expert) override ABSL_LOCKS_EXCLUDED(mutex_) {
    const auto it = bindings_.find(expert);
    if (it == bindings_.end())
      return absl::NotFoundError(absl::StrCat("expert ", expert.ToString(), " is not loaded"));
    absl::MutexLock lock(&mutex_);
    return it->second[next_++ % it->second.size()];
  }

  absl::StatusOr<std::shared_ptr<const engine::ExpertBinding>> FindReplica(
      const engine::ExpertBinding& bound, const engine::LinkList& avoid) override {
    const std::shared_ptr<const engine::ExpertBinding>* other = nullptr;
    for (const auto& binding : bindings_.at(bound.expert)) {
      const bool avoided = std::any_of(avoid.begin(), avoid.end(), [&](const auto& link) {
        return link.lock() == binding->link;
      });
      if (avoided || !binding->link->healthy()) continue;
      if (binding->link == bound.link) return binding;
      if (other == nullptr) other = &binding;
    }
    if (other == nullptr) return absl::UnavailableError("no other worker has it");
    return *other;
  }

 private:
  std::map<ExpertRef, std::vector<std::shared_ptr<const engine::ExpertBinding>>> bindings_;
  absl::Mutex mutex_;
  uint64_t next_ ABSL_GUARDED_BY(mutex_) = 0;
};

// As placed before the engine starts.
class FixedFfnDirectory final : public engine::FfnDirectory {
 public:
  uint64_t epoch() const override { return 1; }
  std::shared_ptr<const engine::FfnTable> Table() override { return table_; }
  void Set(std::vector<engine::FfnPeer> peers, const engine::FfnTable::Holders& holders) {
    table_ = std::make_shared<engine::FfnTable>(std::move(peers), holders);
  }

 private:
  std::shared_ptr<const engine::FfnTable> table_;
};

// An expert worker without its process: the host and, with gRPC, a server of its own on loopback.
// Members are in the order in which they need each other.
struct ExpertWorkerParts {
  std::unique_ptr<experts::UnitHost> host;
  std::unique_ptr<exchange::ExchangeService> service;
  std::unique_ptr<ServerRunner> server;

  ~ExpertWorkerParts() {
    if (service != nullptr) service->CloseLinks();
  }
};

class OfflineEngineImpl final : public OfflineEngine {
 public:
  explicit OfflineEngineImpl(const OfflineOptions& options)
      : options_(options), team_(options.threads) {}

  absl::Status Build() {
    CCOE_ASSIGN_OR_RETURN(compute_, Compute::Create(options_.compute, &team_));
    engine::EngineOptions engine = options_.engine;
    engine.kv_dtype = compute_->kv_dtype();
    CCOE_ASSIGN_OR_RETURN(
        model::MemoryPlan plan,
        PlanBackboneMemory(options_.model_folder, options_.backbone_layers, std::nullopt,
                           options_.expert_folders, engine, compute_->weights()));
    CCOE_ASSIGN_OR_RETURN(const model::ModelSpec whole,
                          model::LoadModelSpec(options_.model_folder));
    const kernels::OpShapes shapes = engine::ModelRunner::ShapesOf(whole, engine);
    CCOE_ASSIGN_OR_RETURN(const int64_t ops_bytes, compute_->OpsBytes(shapes));
    if (ops_bytes > 0) plan.Add("ops", ops_bytes);
    CCOE_RETURN_IF_ERROR(plan.CheckFits(compute_->device()));
    CCOE_ASSIGN_OR_RETURN(loaded_, LoadBackbone(options_.model_folder, options_.backbone_layers,
                                                std::nullopt, compute_->weights()));
    CCOE_RETURN_IF_ERROR(KeepBundles());
    const bool spread = spec().has_moe() && options_.expert_workers > 0;
    int workers = spread ? options_.expert_workers : 0;
    if (!bundles_.empty()) workers = std::max(options_.expert_workers, 1);
    for (int w = 0; w < workers; ++w) CCOE_RETURN_IF_ERROR(AddWorker());
    if (spread) CCOE_RETURN_IF_ERROR(SpreadFfnExperts());
    CCOE_ASSIGN_OR_RETURN(auto ops, compute_->MakeOps(shapes));
    CCOE_ASSIGN_OR_RETURN(engine_,
                          engine::Engine::Create(loaded_.model, std::move(ops), &directory_,
                                                 spread ? &ffn_directory_ : nullptr, engine));
    return absl::OkStatus();
  }

  engine::Engine& engine() override { return *engine_; }
  const model::ModelSpec& spec() const override { return loaded_.model.spec; }
  const std::vector<ExpertRef>& experts() const override { return experts_; }

 private:
  absl::Status KeepBundles() {
    return OpenBundles(loaded_.model.spec, options_.model_folder, options_.expert_folders,
                       [this](const experts::Bundle& bundle) {
                         experts_.push_back(bundle.manifest.expert);
                         bundles_.push_back(bundle);
                         auto& weights = bundles_.back().weights;
                         weights = model::Weights::On(std::move(weights), compute_->weights());
                         return absl::OkStatus();
                       });
  }

  absl::Status AddWorker() {
    ExpertWorkerParts& worker = workers_.emplace_back();
    experts::UnitHostOptions host;
    host.layer_experts = !bundles_.empty();
    host.ffn_experts = spec().has_moe();
    host.kv_tokens = options_.expert_kv_tokens;
    host.kv_dtype = compute_->kv_dtype();
    CCOE_ASSIGN_OR_RETURN(auto ops, compute_->MakeOps(experts::ShapesOf(spec(), host)));
    host.numerics = kernels::NumericsClassOf(*ops, host.kv_dtype);
    CCOE_ASSIGN_OR_RETURN(worker.host, experts::UnitHost::Create(spec(), std::move(ops), host));
    for (const experts::Bundle& bundle : bundles_) {
      CCOE_RETURN_IF_ERROR(worker.host->AddExpert(bundle));
    }
    CCOE_ASSIGN_OR_RETURN(const std::shared_ptr<exchange::ActivationLink> link, Link(worker));
    links_.push_back(link);
    return BindExperts(link);
  }

  absl::Status BindExperts(const std::shared_ptr<exchange::ActivationLink>& link) {
    for (const experts::Bundle& bundle : bundles_) {
      engine::ExpertBinding binding;
      binding.expert = bundle.manifest.expert;
      binding.layers = bundle.manifest.layers;
      binding.link = link;
      binding.worker_id = absl::StrCat("expert-", workers_.size() - 1);
      binding.numerics = link->peer().numerics;
      binding.weights_digest = bundle.manifest.weights_sha256;
      binding.kv_tokens = options_.expert_kv_tokens;
      if (bundle.manifest.owns_norm || bundle.manifest.owns_head) {
        CCOE_ASSIGN_OR_RETURN(binding.own_head,
                              model::LmHead::Create(spec(), loaded_.weights, bundle.weights));
      }
      directory_.Add(std::move(binding));
    }
    return absl::OkStatus();
  }

  // Deals the FFN experts out to the workers.
  absl::Status SpreadFfnExperts() {
    placement::PlanOptions plan_options;
    plan_options.copies = options_.ffn_copies;
    for (size_t w = 0; w < workers_.size(); ++w)
      plan_options.workers.push_back({absl::StrCat("expert-", w), 0});
    CCOE_ASSIGN_OR_RETURN(const placement::Plan plan, placement::MakePlan(spec(), plan_options));
    engine::FfnTable::Holders holders;
    std::vector<engine::FfnPeer> peers;
    for (const model::LayerSpec& layer : spec().layers) {
      holders.emplace_back(layer.ffn.is_moe() ? layer.ffn.moe.experts : 0);
    }
    int32_t number = 0;
    for (ExpertWorkerParts& worker : workers_) {
      const auto index = static_cast<size_t>(number);
      const placement::WorkerPlan* planned = plan.Find(absl::StrCat("expert-", number));
      if (planned == nullptr) return absl::InternalError("the plan leaves a worker out");
      CCOE_RETURN_IF_ERROR(worker.host->AddShard(planned->shard, loaded_.weights));
      peers.push_back({planned->worker_id, links_[index]});
      for (const auto& [layer, held] : planned->shard.layers()) {
        for (const int32_t expert : held) holders[layer][expert].push_back(number);
      }
      ++number;
    }
    ffn_directory_.Set(std::move(peers), holders);
    return absl::OkStatus();
  }

  absl::StatusOr<std::shared_ptr<exchange::ActivationLink>> Link(ExpertWorkerParts& worker) {
    if (options_.exchange == ExchangeKind::kLocal)
      return exchange::MakeLocalLink(worker.host.get());
    const std::string id = absl::StrCat("expert-", workers_.size() - 1);
    exchange::ExchangeServiceOptions service_options;
    service_options.link.identity.worker_id = id;
    service_options.link.identity.hidden_size = spec().hidden_size;
    service_options.link.identity.numerics = worker.host->numerics();
    worker.service =
        std::make_unique<exchange::ExchangeService>(worker.host.get(), service_options);
    ServerOptions server_options;
    server_options.services = {
        {worker.service.get(), std::string(v1::Exchange::service_full_name())}};
    CCOE_ASSIGN_OR_RETURN(worker.server, ServerRunner::Start(std::move(server_options)));
    const std::string address = worker.server->addresses().front();
    CCOE_ASSIGN_OR_RETURN(auto channel, ChannelFactory(nullptr).Connect(address));
    exchange::GrpcLinkOptions link_options;
    link_options.name = absl::StrCat("grpc://", address);
    link_options.identity.worker_id = "offline";
    link_options.identity.hidden_size = spec().hidden_size;
    link_options.wire_dtype = options_.engine.wire_dtype;
    return exchange::OpenGrpcLink(std::move(channel), link_options);
  }

  const OfflineOptions options_;
  ThreadTeam team_;
  std::unique_ptr<Compute> compute_;
  LoadedBackbone loaded_;
  std::vector<experts::Bundle> bundles_;
  std::vector<ExpertRef> experts_;
  std::list<ExpertWorkerParts> workers_;  // stable addresses: links point into them
  std::vector<std::shared_ptr<exchange::ActivationLink>> links_;
  FixedDirectory directory_;
  FixedFfnDirectory ffn_directory_;
  std::unique_ptr<engine::Engine> engine_;  // last: goes first
};

}  // namespace

absl::StatusOr<ExchangeKind> ParseExchange(absl::string_view text) {
  if (text == "local") return ExchangeKind::kLocal;
  if (text == "grpc") return ExchangeKind::kGrpc;
  return absl::InvalidArgumentError(
      absl::StrCat("exchange: expected local or grpc, found \"", text, "\""));
}

absl::StatusOr<std::unique_ptr<OfflineEngine>> OfflineEngine::Create(
    const OfflineOptions& options) {
  if (options.expert_workers < 0 || options.expert_workers > kMaxExpertWorkers) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expert workers: expected 0 to ", kMaxExpertWorkers, ", found ", options.expert_workers));
  }
  auto engine = std::make_unique<OfflineEngineImpl>(options);
  CCOE_RETURN_IF_ERROR(engine->Build());
  return std::unique_ptr<OfflineEngine>(std::move(engine));
}

}  // namespace ccoe::services
