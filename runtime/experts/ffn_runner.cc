#include "runtime/experts/ffn_runner.h"

#include <map>
#include <string>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "kernels/serving_thread.h"
#include "runtime/base/status_macros.h"
#include "runtime/experts/ffn_pass.h"
#include "runtime/experts/ffn_queue.h"
#include "runtime/experts/peer_table.h"
#include "runtime/model/moe.h"
#include "runtime/model/op_shapes.h"

namespace ccoe::experts {
namespace {

// The experts of a layer that are held; those that are not have empty views.
using LayerExperts = std::vector<model::FfnExpertWeights>;

absl::Status CheckOptions(const FfnRunnerOptions& options) {
  if (options.max_batch_rows < 1 || options.max_waiting_swaps < 1 || options.max_waiting_rows < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "FFN runner: max_batch_rows, max_waiting_swaps, max_waiting_rows: expected 1 or more, "
        "found ",
        options.max_batch_rows, ", ", options.max_waiting_swaps, ", ", options.max_waiting_rows));
  }
  return absl::OkStatus();
}

int64_t Bytes(const model::FfnExpertWeights& expert) {
  int64_t bytes = 0;
  for (const kernels::ConstMatrix& matrix : {expert.gate, expert.up, expert.down}) {
    bytes += matrix.rows * matrix.cols * static_cast<int64_t>(kernels::DTypeBytes(matrix.dtype));
  }
  return bytes;
}

}  // namespace

kernels::OpShapes ShapesOf(const model::ModelSpec& spec, const FfnRunnerOptions& options) {
  return model::ShapesOfExperts(spec, options.max_batch_rows);
}

class FfnRunner::Impl {
 public:
  Impl(const model::ModelSpec& spec, std::unique_ptr<FfnPass> pass, const FfnRunnerOptions& options)
      : spec_(spec),
        pass_(std::move(pass)),
        queue_({options.max_batch_rows, options.max_waiting_swaps, options.max_waiting_rows}),
        layers_(spec.layers.size()) {
    thread_ = std::thread([this] {
      kernels::ServingThread serving;
      ComputeLoop();
    });
  }
  ~Impl();

  absl::Status AddShard(const model::FfnShard& shard, std::shared_ptr<const model::Weights> weights)
      ABSL_LOCKS_EXCLUDED(mutex_);
  FfnLoad Load() const ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t AddPeer() ABSL_LOCKS_EXCLUDED(mutex_);
  void RemovePeer(uint64_t peer_id) ABSL_LOCKS_EXCLUDED(mutex_);
  void HandleSwap(WaitingSwap swap) ABSL_LOCKS_EXCLUDED(mutex_);
  kernels::Device* device() const { return &pass_->device(); }
  int64_t hidden_size() const { return spec_.hidden_size; }

 private:
  // A swap that is over and what its callback is to be told.
  struct Finished {
    WaitingSwap swap;
    absl::StatusOr<exchange::SwapResult> result;
  };
  // What the compute thread does next.
  struct Work {
    std::vector<WaitingSwap> swaps;
    std::shared_ptr<const LayerExperts> experts;
  };

  absl::Status CheckSwap(const WaitingSwap& swap) const;
  absl::Status CheckHeld(const exchange::FfnDispatch& ffn) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Accept(WaitingSwap& swap) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ComputeLoop() ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<Finished> Compute(Work work) ABSL_LOCKS_EXCLUDED(mutex_);
  void Finish(std::vector<Finished> finished) ABSL_LOCKS_EXCLUDED(mutex_);

  const model::ModelSpec spec_;
  const std::unique_ptr<FfnPass> pass_;  // the compute thread's

  mutable absl::Mutex mutex_;
  FfnQueue queue_ ABSL_GUARDED_BY(mutex_);
  PeerTable peers_ ABSL_GUARDED_BY(mutex_);
  // By layer; null where nothing is held. Replaced, never changed: a pass keeps what it began with.
  std::vector<std::shared_ptr<const LayerExperts>> layers_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<const model::Weights>> weights_ ABSL_GUARDED_BY(mutex_);
  FfnLoad load_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

FfnRunner::Impl::~Impl() {
  std::vector<WaitingSwap> waiting;
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    waiting = queue_.RemoveAll();
  }
  thread_.join();
  for (WaitingSwap& swap : waiting) {
    swap.done(absl::UnavailableError("the expert worker is stopping"));
  }
}

absl::Status FfnRunner::Impl::AddShard(const model::FfnShard& shard,
                                       std::shared_ptr<const model::Weights> weights) {
  CCOE_RETURN_IF_ERROR(shard.CheckWithin(spec_));
  // Binding compares names, shapes and dtypes; it reads no tensor, and holds up no swap.
  std::map<int32_t, std::map<int32_t, model::FfnExpertWeights>> bound;
  for (const auto& [layer, experts] : shard.layers()) {
    for (const int32_t expert : experts) {
      CCOE_ASSIGN_OR_RETURN(bound[layer][expert],
                            model::BindFfnExpert(spec_, layer, expert, *weights));
    }
  }
  absl::MutexLock lock(&mutex_);
  for (const auto& [layer, experts] : bound) {
    auto held = layers_[layer] == nullptr
                    ? std::make_shared<LayerExperts>(spec_.layers[layer].ffn.moe.experts)
                    : std::make_shared<LayerExperts>(*layers_[layer]);
    for (const auto& [expert, views] : experts) {
      if (load_.shard.Contains(layer, expert)) continue;
      (*held)[expert] = views;
      load_.shard.Add(layer, expert);
      load_.weight_bytes += Bytes(views);
    }
    layers_[layer] = std::move(held);
  }
  weights_.push_back(std::move(weights));
  return absl::OkStatus();
}

FfnLoad FfnRunner::Impl::Load() const {
  absl::MutexLock lock(&mutex_);
  FfnLoad load = load_;
  load.waiting_rows = queue_.waiting_rows();
  return load;
}

uint64_t FfnRunner::Impl::AddPeer() {
  absl::MutexLock lock(&mutex_);
  return peers_.Add();
}

void FfnRunner::Impl::RemovePeer(uint64_t peer_id) {
  std::vector<Finished> ended;
  {
    absl::MutexLock lock(&mutex_);
    if (!peers_.StartLeaving(peer_id)) return;
    for (WaitingSwap& swap : queue_.RemovePeer(peer_id)) {
      ended.push_back({std::move(swap), absl::UnavailableError("the peer's link is closed")});
    }
  }
  Finish(std::move(ended));
  absl::MutexLock lock(&mutex_);
  // What is left is in the running pass.
  auto idle = [this, peer_id]()
                  ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return peers_.Idle(peer_id); };
  mutex_.Await(absl::Condition(&idle));
  peers_.Remove(peer_id);
}

absl::Status FfnRunner::Impl::CheckSwap(const WaitingSwap& swap) const {
  const exchange::StepHeader& header = swap.header;
  if (!header.ffn.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("step ", header.step_id,
                     ": expected a dispatch to FFN experts, found rows for the layer expert ",
                     header.expert.ToString()));
  }
  CCOE_RETURN_IF_ERROR(exchange::Validate(header, spec_.hidden_size));
  CCOE_RETURN_IF_ERROR(CheckRows(swap, spec_.hidden_size, pass_->device()));
  const int32_t layer = header.ffn->layer;
  if (layer >= spec_.layer_count() || !spec_.layers[layer].ffn.is_moe()) {
    return absl::InvalidArgumentError(absl::StrCat("step ", header.step_id, ": layer ", layer,
                                                   " of the model has no FFN experts"));
  }
  return absl::OkStatus();
}

absl::Status FfnRunner::Impl::CheckHeld(const exchange::FfnDispatch& ffn) const {
  const LayerExperts* held = layers_[ffn.layer].get();
  for (const int32_t expert : ffn.experts) {
    if (held != nullptr && expert < static_cast<int64_t>(held->size()) &&
        !(*held)[expert].gate.empty()) {
      continue;
    }
    return absl::NotFoundError(absl::StrCat("layer ", ffn.layer, " FFN expert ", expert,
                                            " is not on this worker; it holds ",
                                            load_.shard.empty() ? "none" : load_.shard.ToString()));
  }
  return absl::OkStatus();
}

absl::Status FfnRunner::Impl::Accept(WaitingSwap& swap) {
  if (stopping_) return absl::UnavailableError("the expert worker is stopping");
  CCOE_RETURN_IF_ERROR(peers_.Check(swap.peer_id));
  CCOE_RETURN_IF_ERROR(CheckHeld(*swap.header.ffn));
  const uint64_t peer_id = swap.peer_id;
  CCOE_RETURN_IF_ERROR(queue_.Push(std::move(swap)));
  peers_.Begin(peer_id);
  return absl::OkStatus();
}

void FfnRunner::Impl::HandleSwap(WaitingSwap swap) {
  absl::Status accepted = CheckSwap(swap);
  if (accepted.ok()) {
    absl::MutexLock lock(&mutex_);
    accepted = Accept(swap);
  }
  if (!accepted.ok()) swap.done(std::move(accepted));
}

void FfnRunner::Impl::ComputeLoop() {
  while (true) {
    Work work;
    {
      absl::MutexLock lock(&mutex_);
      auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return stopping_ || !queue_.empty();
      };
      mutex_.Await(absl::Condition(&ready));
      if (stopping_) return;
      work.swaps = queue_.Take();
      work.experts = layers_[work.swaps.front().header.ffn->layer];
    }
    Finish(Compute(std::move(work)));
  }
}

std::vector<FfnRunner::Impl::Finished> FfnRunner::Impl::Compute(Work work) {
  const int32_t layer = work.swaps.front().header.ffn->layer;
  auto results = pass_->Run(spec_.layers[layer].ffn, *work.experts, work.swaps);
  std::vector<Finished> finished;
  finished.reserve(work.swaps.size());
  absl::MutexLock lock(&mutex_);
  ++load_.batches;
  for (size_t i = 0; i < work.swaps.size(); ++i) {
    WaitingSwap& swap = work.swaps[i];
    ++load_.swaps;
    load_.rows += swap.header.rows();
    load_.pairs += swap.header.ffn->pairs();
    if (results.ok()) {
      finished.push_back({std::move(swap), std::move((*results)[i])});
    } else {
      finished.push_back(
          {std::move(swap), Annotate(results.status(), absl::StrCat("layer ", layer))});
    }
  }
  return finished;
}

void FfnRunner::Impl::Finish(std::vector<Finished> finished) {
  for (Finished& each : finished) {
    each.swap.done(std::move(each.result));
    absl::MutexLock lock(&mutex_);
    peers_.End(each.swap.peer_id);
  }
}

absl::StatusOr<std::unique_ptr<FfnRunner>> FfnRunner::Create(const model::ModelSpec& spec,
                                                             std::unique_ptr<kernels::Ops> ops,
                                                             const FfnRunnerOptions& options) {
  CCOE_RETURN_IF_ERROR(CheckOptions(options));
  CCOE_ASSIGN_OR_RETURN(auto pass, FfnPass::Create(spec, options.max_batch_rows, std::move(ops)));
  return absl::WrapUnique(new FfnRunner(std::make_unique<Impl>(spec, std::move(pass), options)));
}

FfnRunner::FfnRunner(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FfnRunner::~FfnRunner() = default;

absl::Status FfnRunner::AddShard(const model::FfnShard& shard,
                                 std::shared_ptr<const model::Weights> weights) {
  return impl_->AddShard(shard, std::move(weights));
}
FfnLoad FfnRunner::Load() const { return impl_->Load(); }
uint64_t FfnRunner::AddPeer() { return impl_->AddPeer(); }
void FfnRunner::RemovePeer(uint64_t peer_id) { impl_->RemovePeer(peer_id); }
void FfnRunner::HandleSwap(uint64_t peer_id, const exchange::StepHeader& header,
                           exchange::RowBlock rows, exchange::SwapCallback done) {
  impl_->HandleSwap({peer_id, header, std::move(rows), std::move(done)});
}
// Nothing is kept of a sequence.
void FfnRunner::HandleRelease(uint64_t, uint64_t) {}
kernels::Device* FfnRunner::device() const { return impl_->device(); }
int64_t FfnRunner::hidden_size() const { return impl_->hidden_size(); }

}  // namespace ccoe::experts
