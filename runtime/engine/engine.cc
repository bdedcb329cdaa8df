// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/engine.h"

#include <random>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/serving_thread.h"
#include "runtime/base/status_macros.h"
#include "runtime/engine/engine_loop.h"
#include "runtime/engine/model_runner.h"
#include "runtime/engine/request_queue.h"

namespace ccoe::engine {
namespace {

uint64_t Entropy() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

absl::Status CheckModel(const BackboneModel& model) {
  if (model.embedding == nullptr || model.decoder == nullptr || model.head == nullptr) {
    return absl::InvalidArgumentError(
        "backbone model: expected an embedding, a decoder and a head, found a null one");
  }
  const model::LayerRange layers = model.decoder->layers();
  if (layers.first != 0 || layers.last > model.spec.layer_count()) {
    return absl::InvalidArgumentError(
        absl::StrCat("backbone model: expected layers [0, n) with n <= ", model.spec.layer_count(),
                     ", found [", layers.first, ", ", layers.last, ")"));
  }
  return absl::OkStatus();
}

AdmissionLimits LimitsOf(const BackboneModel& model, int64_t kv_tokens, const MoePolicy& policy) {
  AdmissionLimits limits;
  limits.vocab_size = model.spec.vocab_size;
  limits.context_tokens = model.spec.max_positions;
  limits.kv_tokens = kv_tokens;
  limits.layer_count = model.spec.layer_count();
  limits.held_layers = model.decoder->layers();
  limits.moe_policy = policy;
  limits.spec = std::make_shared<const model::ModelSpec>(model.spec);
  return limits;
}

}  // namespace

class Engine::Impl {
 public:
  Impl(const AdmissionLimits& limits, std::vector<int32_t> eos_ids, ExpertDirectory* directory,
       std::shared_ptr<RequestQueue> queue, std::unique_ptr<EngineLoop> loop)
      : limits_(limits),
        eos_ids_(std::move(eos_ids)),
        directory_(directory),
        queue_(std::move(queue)),
        loop_(std::move(loop)),
        thread_([this] {
          kernels::ServingThread serving;
          loop_->Run();
        }) {}

  ~Impl() {
    queue_->Stop();
    thread_.join();
  }

  absl::StatusOr<uint64_t> Submit(EngineRequest query, std::unique_ptr<TokenSink> sink) {
    if (sink == nullptr) return absl::InvalidArgumentError("a query needs a sink");
    SequenceInit init;
    CCOE_RETURN_IF_ERROR(CheckQuery(query, limits_));
    CCOE_ASSIGN_OR_RETURN(init.binding, Bind(query.expert));
    CCOE_RETURN_IF_ERROR(CheckLayers(init.binding.get(), limits_));
    CCOE_ASSIGN_OR_RETURN(init.max_tokens, TokensToGenerate(query, init.binding.get(), limits_));
    CCOE_RETURN_IF_ERROR(CheckMoeLayers(query.moe.get(), init.binding.get()));
    init.stop_ids = StopIds(query.sampling, eos_ids_);
    init.query = std::move(query);
    init.sink = std::move(sink);
    return queue_->Submit(std::move(init));
  }

  RequestQueue& queue() { return *queue_; }

 private:
  absl::StatusOr<std::shared_ptr<const ExpertBinding>> Bind(const ExpertRef& expert) {
    if (expert.empty()) return nullptr;
    if (directory_ == nullptr) {
      return absl::NotFoundError(
          absl::StrCat("expert ", expert.ToString(), ": this engine has no experts"));
    }
    CCOE_ASSIGN_OR_RETURN(std::shared_ptr<const ExpertBinding> binding, directory_->Find(expert));
    if (binding == nullptr)
      return absl::InternalError(absl::StrCat("expert ", expert.ToString(), ": null binding"));
    return binding;
  }

  const AdmissionLimits limits_;
  const std::vector<int32_t> eos_ids_;
  ExpertDirectory* const directory_;
  const std::shared_ptr<RequestQueue> queue_;
  const std::unique_ptr<EngineLoop> loop_;
  std::thread thread_;  // last: runs the loop as soon as it is made
};

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(BackboneModel model,
                                                       std::unique_ptr<kernels::Ops> ops,
                                                       ExpertDirectory* directory,
                                                       FfnDirectory* ffn,
                                                       const EngineOptions& options) {
  CCOE_RETURN_IF_ERROR(Validate(options));
  CCOE_RETURN_IF_ERROR(CheckModel(model));
  if (ops == nullptr) return absl::InvalidArgumentError("an engine needs ops");
  const int64_t pages = options.kv_tokens / options.page_tokens;
  const AdmissionLimits limits = LimitsOf(model, pages * options.page_tokens, options.moe_policy);
  std::vector<int32_t> eos_ids = model.spec.eos_token_ids;
  CCOE_ASSIGN_OR_RETURN(auto runner,
                        ModelRunner::Create(std::move(model), std::move(ops), options));
  auto queue = std::make_shared<RequestQueue>(options.max_waiting, Entropy(), options.clock);
  auto loop = std::make_unique<EngineLoop>(std::move(runner), queue,
                                           EngineLoop::Directories{directory, ffn}, options, pages);
  auto impl = std::make_unique<Impl>(limits, std::move(eos_ids), directory, std::move(queue),
                                     std::move(loop));
  return std::unique_ptr<Engine>(new Engine(std::move(impl)));
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Engine::~Engine() = default;

absl::StatusOr<uint64_t> Engine::Submit(EngineRequest query, std::unique_ptr<TokenSink> sink) {
  return impl_->Submit(std::move(query), std::move(sink));
}

void Engine::Cancel(uint64_t handle) { impl_->queue().Cancel(handle); }

bool Engine::Drain(absl::Time deadline) { return impl_->queue().Drain(deadline); }

absl::Status Engine::Health() const { return impl_->queue().Health(); }

EngineLoad Engine::Load() const { return impl_->queue().Load(); }

}  // namespace ccoe::engine
