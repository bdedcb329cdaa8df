#include "runtime/experts/expert_runner.h"

#include <map>
#include <string>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "kernels/serving_thread.h"
#include "runtime/base/status_macros.h"
#include "runtime/experts/expert_kv.h"
#include "runtime/experts/expert_pass.h"
#include "runtime/experts/peer_table.h"
#include "runtime/experts/swap_queue.h"
#include "runtime/model/op_shapes.h"

namespace ccoe::experts {
namespace {

absl::Status CheckOptions(const ExpertRunnerOptions& options) {
  if (options.kv_tokens < 1 || options.page_tokens < 1 || options.max_batch_rows < 1 ||
      options.max_waiting_swaps < 1 || options.max_waiting_rows < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("expert runner: kv_tokens, page_tokens, max_batch_rows, max_waiting_swaps, "
                     "max_waiting_rows: expected 1 "
                     "or more, found ",
                     options.kv_tokens, ", ", options.page_tokens, ", ", options.max_batch_rows,
                     ", ", options.max_waiting_swaps, ", ", options.max_waiting_rows));
  }
  return absl::OkStatus();
}

int64_t WeightBytes(const model::Weights& weights) {
  int64_t bytes = 0;
  for (const std::string& name : weights.Names()) {
    const absl::StatusOr<model::TensorView> tensor = weights.Raw(name);
    if (tensor.ok()) bytes += static_cast<int64_t>(tensor->size_bytes);
  }
  return bytes;
}

}  // namespace

kernels::OpShapes ShapesOf(const model::ModelSpec& spec, const ExpertRunnerOptions& options) {
  model::PassLimits limits;
  limits.rows = limits.sequences = options.max_batch_rows;
  limits.tokens = options.kv_tokens;
  limits.page_tokens = options.page_tokens;
  return model::ShapesOfPasses(spec, limits);
}

model::KvStorageOptions KvOptionsOf(const ExpertRunnerOptions& options, model::LayerRange layers) {
  const int64_t pages = (options.kv_tokens + options.page_tokens - 1) / options.page_tokens;
  return {layers, pages, options.page_tokens, options.kv_dtype};
}

class ExpertRunner::Impl {
 public:
  Impl(const model::ModelSpec& spec, std::unique_ptr<ExpertPass> pass,
       const ExpertRunnerOptions& options)
      : spec_(spec),
        options_(options),
        pass_(std::move(pass)),
        queue_({options.max_batch_rows, options.max_waiting_swaps, options.max_waiting_rows}) {
    limits_.max_position = spec.max_positions;
    thread_ = std::thread([this] {
      kernels::ServingThread serving;
      ComputeLoop();
    });
  }
  ~Impl();

  absl::Status AddExpert(const Bundle& bundle) ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<ExpertLoad> Load() const ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t AddPeer() ABSL_LOCKS_EXCLUDED(mutex_);
  void RemovePeer(uint64_t peer_id) ABSL_LOCKS_EXCLUDED(mutex_);
  void HandleSwap(WaitingSwap swap) ABSL_LOCKS_EXCLUDED(mutex_);
  void HandleRelease(uint64_t peer_id, uint64_t sequence_id) ABSL_LOCKS_EXCLUDED(mutex_);
  kernels::Device* device() const { return &pass_->device(); }
  int64_t hidden_size() const { return spec_.hidden_size; }

 private:
  // Never removed, so a pointer to one stays good. `kv` and `load` are guarded by mutex_.
  struct Expert {
    std::unique_ptr<const model::Decoder> decoder;
    std::unique_ptr<const model::KvStorage> storage;
    ExpertKv kv;
    ExpertLoad load;
  };
  // A swap that is over and what its callback is to be told.
  struct Finished {
    WaitingSwap swap;
    absl::StatusOr<exchange::SwapResult> result;
  };
  // What the compute thread does next. The block tables in `batch` are those of expert->kv: only
  // this thread changes the tables of sequences in a pass, and a peer is removed only when its
  // swaps are finished.
  struct Work {
    Expert* expert = nullptr;
    std::vector<WaitingSwap> swaps;
    model::RowBatch batch;
    std::vector<Finished> refused;  // found no KV
  };

  absl::Status CheckSwap(const WaitingSwap& swap) const;
  absl::Status Accept(WaitingSwap& swap) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckExpert(const exchange::StepHeader& header) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string ExpertNames() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ComputeLoop() ABSL_LOCKS_EXCLUDED(mutex_);
  Work NextWork() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::vector<Finished> Compute(Work work) ABSL_LOCKS_EXCLUDED(mutex_);
  void Settle(Expert& expert, absl::Span<const WaitingSwap> swaps, bool computed)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Finish(std::vector<Finished> finished) ABSL_LOCKS_EXCLUDED(mutex_);

  const model::ModelSpec spec_;
  const ExpertRunnerOptions options_;
  exchange::StepLimits limits_;
  const std::unique_ptr<ExpertPass> pass_;  // the compute thread's

  mutable absl::Mutex mutex_;
  SwapQueue queue_ ABSL_GUARDED_BY(mutex_);
  std::map<ExpertRef, std::unique_ptr<Expert>> experts_ ABSL_GUARDED_BY(mutex_);
  PeerTable peers_ ABSL_GUARDED_BY(mutex_);
  // Of each peer: seen and not released.
  absl::flat_hash_map<uint64_t, absl::flat_hash_set<uint64_t>> sequences_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

ExpertRunner::Impl::~Impl() {
  std::vector<WaitingSwap> waiting;
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    waiting = queue_.RemoveAll();
  }
  thread_.join();
  for (WaitingSwap& swap : waiting)
    swap.done(absl::UnavailableError("the expert worker is stopping"));
}

absl::Status ExpertRunner::Impl::AddExpert(const Bundle& bundle) {
  const BundleManifest& manifest = bundle.manifest;
  const std::string name = absl::StrCat("expert ", manifest.expert.ToString());
  auto decoder = model::Decoder::Create(spec_, manifest.layers, bundle.weights);
  if (!decoder.ok()) return Annotate(decoder.status(), name);
  const model::KvStorageOptions kv = KvOptionsOf(options_, manifest.layers);
  auto storage = model::KvStorage::Create(&pass_->device(), spec_, kv);
  if (!storage.ok()) return Annotate(storage.status(), name);
  ExpertLoad load;
  load.expert = manifest.expert;
  load.layers = manifest.layers;
  load.weight_bytes = WeightBytes(*bundle.weights);
  auto expert = std::make_unique<Expert>(
      Expert{*std::move(decoder), *std::move(storage), ExpertKv(kv.pages, kv.page_tokens), load});
  absl::MutexLock lock(&mutex_);
  if (!experts_.emplace(manifest.expert, std::move(expert)).second) {
    return absl::AlreadyExistsError(absl::StrCat(name, " is loaded already"));
  }
  return absl::OkStatus();
}

std::vector<ExpertLoad> ExpertRunner::Impl::Load() const {
  absl::MutexLock lock(&mutex_);
  std::vector<ExpertLoad> loads;
  for (const auto& [name, expert] : experts_) {
    ExpertLoad& load = loads.emplace_back(expert->load);
    load.kv_tokens_used = expert->kv.used_tokens();
    load.kv_tokens_total = expert->kv.total_tokens();
    load.waiting_rows = queue_.waiting_rows(name);
  }
  return loads;
}

uint64_t ExpertRunner::Impl::AddPeer() {
  absl::MutexLock lock(&mutex_);
  return peers_.Add();
}

void ExpertRunner::Impl::RemovePeer(uint64_t peer_id) {
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
  sequences_.erase(peer_id);
  for (auto& [name, expert] : experts_) expert->kv.ReleasePeer(peer_id);
}

std::string ExpertRunner::Impl::ExpertNames() const {
  return absl::StrJoin(experts_, ", ", [](std::string* out, const auto& entry) {
    absl::StrAppend(out, entry.first.ToString());
  });
}

absl::Status ExpertRunner::Impl::CheckExpert(const exchange::StepHeader& header) const {
  const auto found = experts_.find(header.expert);
  if (found == experts_.end()) {
    return absl::NotFoundError(absl::StrCat("expert ", header.expert.ToString(),
                                            " is not on this worker; it holds ",
                                            experts_.empty() ? "none" : ExpertNames()));
  }
  const model::LayerRange layers = found->second->load.layers;
  if (layers == header.layers) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "layers of expert ", header.expert.ToString(), ": expected [", layers.first, ", ",
      layers.last, "), found [", header.layers.first, ", ", header.layers.last, ")"));
}

absl::Status ExpertRunner::Impl::Accept(WaitingSwap& swap) {
  if (stopping_) return absl::UnavailableError("the expert worker is stopping");
  CCOE_RETURN_IF_ERROR(peers_.Check(swap.peer_id));
  CCOE_RETURN_IF_ERROR(CheckExpert(swap.header));
  const uint64_t peer_id = swap.peer_id;
  absl::flat_hash_set<uint64_t>& sequences = sequences_[peer_id];
  for (const exchange::SwapSequence& sequence : swap.header.sequences) {
    sequences.insert(sequence.sequence_id);
  }
  CCOE_RETURN_IF_ERROR(queue_.Push(std::move(swap)));
  peers_.Begin(peer_id);
  return absl::OkStatus();
}

absl::Status ExpertRunner::Impl::CheckSwap(const WaitingSwap& swap) const {
  const std::string step = absl::StrCat("step ", swap.header.step_id);
  if (swap.header.ffn.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat(step, ": expected rows for a layer expert, found a dispatch to FFN experts"));
  }
  CCOE_RETURN_IF_ERROR(exchange::Validate(swap.header, spec_.hidden_size, limits_));
  return CheckRows(swap, spec_.hidden_size, pass_->device());
}

void ExpertRunner::Impl::HandleSwap(WaitingSwap swap) {
  absl::Status accepted = CheckSwap(swap);
  if (accepted.ok()) {
    absl::MutexLock lock(&mutex_);
    accepted = Accept(swap);
  }
  if (!accepted.ok()) swap.done(std::move(accepted));
}

void ExpertRunner::Impl::HandleRelease(uint64_t peer_id, uint64_t sequence_id) {
  absl::MutexLock lock(&mutex_);
  const auto seen = sequences_.find(peer_id);
  // A sequence never seen, or released already, has nothing here: so as many releases wait as there
  // are sequences.
  if (stopping_ || seen == sequences_.end() || seen->second.erase(sequence_id) == 0) return;
  queue_.PushRelease({peer_id, sequence_id});
}

void ExpertRunner::Impl::ComputeLoop() {
  while (true) {
    Work work;
    {
      absl::MutexLock lock(&mutex_);
      auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return stopping_ || !queue_.empty();
      };
      mutex_.Await(absl::Condition(&ready));
      if (stopping_) return;
      work = NextWork();
    }
    Finish(std::move(work.refused));
    if (!work.swaps.empty()) Finish(Compute(std::move(work)));
  }
}

ExpertRunner::Impl::Work ExpertRunner::Impl::NextWork() {
  SwapQueue::Pass pass = queue_.Take();
  for (const auto& [peer_id, sequence_id] : pass.releases) {
    for (auto& [name, expert] : experts_) expert->kv.Release(peer_id, sequence_id);
  }
  Work work;
  if (pass.swaps.empty()) return work;
  work.expert = experts_.at(pass.swaps.front().header.expert).get();
  int64_t row = 0;
  for (WaitingSwap& swap : pass.swaps) {
    absl::Status admitted = work.expert->kv.Admit(swap.peer_id, swap.header);
    if (!admitted.ok()) {
      admitted = Annotate(admitted, absl::StrCat("expert ", swap.header.expert.ToString()));
      work.refused.push_back({std::move(swap), std::move(admitted)});
      continue;
    }
    for (const exchange::SwapSequence& sequence : swap.header.sequences) {
      work.batch.sequences.push_back({row, sequence.row_count, sequence.first_position,
                                      work.expert->kv.Table(swap.peer_id, sequence.sequence_id)});
      row += sequence.row_count;
    }
    work.swaps.push_back(std::move(swap));
  }
  return work;
}

std::vector<ExpertRunner::Impl::Finished> ExpertRunner::Impl::Compute(Work work) {
  auto results = pass_->Run(*work.expert->decoder, *work.expert->storage, work.swaps, work.batch);
  Settle(*work.expert, work.swaps, results.ok());
  std::vector<Finished> finished;
  finished.reserve(work.swaps.size());
  for (size_t i = 0; i < work.swaps.size(); ++i) {
    WaitingSwap& swap = work.swaps[i];
    if (results.ok()) {
      finished.push_back({std::move(swap), std::move((*results)[i])});
    } else {
      const std::string name = absl::StrCat("expert ", swap.header.expert.ToString());
      finished.push_back({std::move(swap), Annotate(results.status(), name)});
    }
  }
  return finished;
}

void ExpertRunner::Impl::Settle(Expert& expert, absl::Span<const WaitingSwap> swaps,
                                bool computed) {
  absl::MutexLock lock(&mutex_);
  ++expert.load.batches;
  for (const WaitingSwap& swap : swaps) {
    ++expert.load.swaps;
    expert.load.rows += swap.header.rows();
    if (computed) {
      expert.kv.Commit(swap.peer_id, swap.header);
    } else {
      expert.kv.Abandon(swap.peer_id, swap.header);
    }
  }
}

void ExpertRunner::Impl::Finish(std::vector<Finished> finished) {
  for (Finished& each : finished) {
    each.swap.done(std::move(each.result));
    absl::MutexLock lock(&mutex_);
    peers_.End(each.swap.peer_id);
  }
}

absl::StatusOr<std::unique_ptr<ExpertRunner>> ExpertRunner::Create(
    const model::ModelSpec& spec, std::unique_ptr<kernels::Ops> ops,
    const ExpertRunnerOptions& options) {
  CCOE_RETURN_IF_ERROR(CheckOptions(options));
  CCOE_ASSIGN_OR_RETURN(auto pass,
                        ExpertPass::Create(spec, options.max_batch_rows, std::move(ops)));
  return absl::WrapUnique(new ExpertRunner(std::make_unique<Impl>(spec, std::move(pass), options)));
}

ExpertRunner::ExpertRunner(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ExpertRunner::~ExpertRunner() = default;

absl::Status ExpertRunner::AddExpert(const Bundle& bundle) { return impl_->AddExpert(bundle); }
std::vector<ExpertLoad> ExpertRunner::Load() const { return impl_->Load(); }
uint64_t ExpertRunner::AddPeer() { return impl_->AddPeer(); }
void ExpertRunner::RemovePeer(uint64_t peer_id) { impl_->RemovePeer(peer_id); }
void ExpertRunner::HandleSwap(uint64_t peer_id, const exchange::StepHeader& header,
                              exchange::RowBlock rows, exchange::SwapCallback done) {
  impl_->HandleSwap({peer_id, header, std::move(rows), std::move(done)});
}
void ExpertRunner::HandleRelease(uint64_t peer_id, uint64_t sequence_id) {
  impl_->HandleRelease(peer_id, sequence_id);
}
kernels::Device* ExpertRunner::device() const { return impl_->device(); }
int64_t ExpertRunner::hidden_size() const { return impl_->hidden_size(); }

}  // namespace ccoe::experts
