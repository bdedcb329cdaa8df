// SPDX-License-Identifier: Apache-2.0
#include "runtime/experts/unit_host.h"

#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "kernels/device_error.h"
#include "kernels/serving_thread.h"
#include "runtime/base/status_macros.h"
#include "runtime/experts/ffn_pass.h"

namespace ccoe::experts {
namespace {

using exchange::SwapError;
using exchange::SwapReason;

absl::Status CheckDevice(const WaitingSwap& swap, const kernels::Device& device) {
  const exchange::RowBlock& block = swap.swap.rows.block;
  if (!block.on_device() || block.memory()->device() == &device) return absl::OkStatus();
  return SwapError(SwapReason::kInvalid,
                   absl::StrCat("swap ", swap.header().id, ": expected rows in ", device.Name(),
                                ", found them in ", block.memory()->device()->Name()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<UnitHost>> UnitHost::Create(const model::ModelSpec& spec,
                                                           std::unique_ptr<kernels::Ops> ops,
                                                           const UnitHostOptions& options) {
  CCOE_RETURN_IF_ERROR(Check(options));
  CCOE_ASSIGN_OR_RETURN(auto memory,
                        PassMemory::Create(spec, PassLimitsOf(options), std::move(ops)));
  return absl::WrapUnique(new UnitHost(spec, std::move(memory), options));
}

UnitHost::UnitHost(const model::ModelSpec& spec, std::unique_ptr<PassMemory> memory,
                   const UnitHostOptions& options)
    : spec_(spec),
      options_(options),
      clock_(ClockOr(options.clock)),
      memory_(std::move(memory)),
      queue_(QueueOptionsOf(options)),
      units_(spec_) {
  lane_ = std::thread([this] {
    kernels::ServingThread serving;
    Serve();
  });
}

UnitHost::~UnitHost() {
  std::vector<WaitingSwap> waiting;
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    waiting = queue_.RemoveAll();
  }
  lane_.join();
  Finish(AnswersOf(std::move(waiting),
                   SwapError(SwapReason::kShuttingDown, "the expert worker is stopping")));
}

// ---- what it holds ----

absl::Status UnitHost::AddExpert(const Bundle& bundle) {
  const ExpertRef& expert = bundle.manifest.expert;
  if (!options_.layer_experts) {
    return absl::FailedPreconditionError(
        absl::StrCat("expert ", expert.ToString(), ": this host was made for FFN experts alone"));
  }
  {
    absl::MutexLock lock(&mutex_);
    CCOE_RETURN_IF_ERROR(failed_);
    CCOE_RETURN_IF_ERROR(units_.CheckAbsent(expert));
  }
  // Loading holds up no swap.
  CCOE_ASSIGN_OR_RETURN(
      auto unit,
      LayerUnit::Create(spec_, bundle, KvOptionsOf(options_, bundle.manifest.layers), device()));
  absl::MutexLock lock(&mutex_);
  CCOE_RETURN_IF_ERROR(failed_);
  return units_.Add(std::move(unit));
}

absl::Status UnitHost::RemoveExpert(const ExpertRef& expert) {
  std::shared_ptr<LayerUnit> unit;  // its memory is given back without the lock
  std::vector<WaitingSwap> waiting;
  {
    absl::MutexLock lock(&mutex_);
    CCOE_ASSIGN_OR_RETURN(unit, units_.Remove(expert));
    waiting = queue_.RemoveUnit({expert, -1});
  }
  Finish(AnswersOf(std::move(waiting),
                   SwapError(SwapReason::kUnknownExpert,
                             absl::StrCat("expert ", expert.ToString(), " was removed"))));
  return absl::OkStatus();
}

absl::Status UnitHost::AddShard(const model::FfnShard& shard,
                                std::shared_ptr<const model::Weights> weights) {
  if (!options_.ffn_experts) {
    return absl::FailedPreconditionError("FFN experts: this host was made for layer experts alone");
  }
  CCOE_ASSIGN_OR_RETURN(const auto bound, UnitRegistry::Bind(spec_, shard, *weights));
  absl::MutexLock lock(&mutex_);
  CCOE_RETURN_IF_ERROR(failed_);
  units_.Add(bound, std::move(weights));
  return absl::OkStatus();
}

HostLoad UnitHost::Load() const {
  absl::MutexLock lock(&mutex_);
  return units_.Load(queue_);
}

// ---- what its peers ask ----

uint64_t UnitHost::AddPeer() {
  absl::MutexLock lock(&mutex_);
  peers_.try_emplace(++last_peer_);
  return last_peer_;
}

void UnitHost::RemovePeer(uint64_t peer_id) {
  std::vector<WaitingSwap> waiting;
  {
    absl::MutexLock lock(&mutex_);
    const auto peer = peers_.find(peer_id);
    if (peer == peers_.end() || peer->second.leaving) return;
    peer->second.leaving = true;
    waiting = queue_.RemovePeer(peer_id);
  }
  Finish(AnswersOf(std::move(waiting),
                   SwapError(SwapReason::kLinkBroken, "the peer's link is closed")));
  absl::MutexLock lock(&mutex_);
  // What is left is in the running pass, or being refused.
  auto idle = [this, peer_id]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return peers_.at(peer_id).unanswered == 0;
  };
  mutex_.Await(absl::Condition(&idle));
  peers_.erase(peer_id);
  units_.ReleasePeer(peer_id);
}

absl::Status UnitHost::CheckServes() const {
  CCOE_RETURN_IF_ERROR(failed_);
  if (!stopping_) return absl::OkStatus();
  return SwapError(SwapReason::kShuttingDown, "the expert worker is stopping");
}

absl::Status UnitHost::Accept(WaitingSwap& swap) {
  CCOE_RETURN_IF_ERROR(CheckServes());
  const auto peer = peers_.find(swap.peer_id);
  if (peer == peers_.end() || peer->second.leaving) {
    return SwapError(SwapReason::kLinkBroken, "the peer's link is closed");
  }
  CCOE_RETURN_IF_ERROR(CheckDevice(swap, *device()));
  CCOE_RETURN_IF_ERROR(units_.Check(swap.header()));
  return queue_.Push(std::move(swap));
}

void UnitHost::HandleEnvelope(uint64_t peer_id, exchange::Envelope envelope,
                              exchange::SwapCallback done) {
  const auto shared = std::make_shared<exchange::SwapCallback>(std::move(done));
  Answers refused;
  {
    absl::MutexLock lock(&mutex_);
    const auto peer = peers_.find(peer_id);
    if (peer != peers_.end()) peer->second.unanswered += envelope.swaps.size();
    for (exchange::Swap& each : envelope.swaps) {
      WaitingSwap swap = {peer_id, std::move(each), {}, shared};
      if (absl::Status accepted = Accept(swap); !accepted.ok()) {
        refused.push_back({std::move(swap), std::move(accepted)});
      }
    }
  }
  Finish(std::move(refused));
}

void UnitHost::HandleCancel(uint64_t peer_id, const std::vector<uint64_t>& swap_ids) {
  std::vector<WaitingSwap> cancelled;
  {
    absl::MutexLock lock(&mutex_);
    cancelled = queue_.Cancel(peer_id, swap_ids);
  }
  Finish(
      AnswersOf(std::move(cancelled), SwapError(SwapReason::kCancelled, "the swap was cancelled")));
}

void UnitHost::HandleRelease(uint64_t peer_id, uint64_t sequence_id) {
  std::vector<WaitingSwap> over;
  {
    absl::MutexLock lock(&mutex_);
    over = queue_.Release({peer_id, sequence_id});
    units_.Release(peer_id, sequence_id);
  }
  Finish(VerdictsOf(std::move(over)));
}

exchange::HostProgress UnitHost::Progress() const {
  absl::MutexLock lock(&mutex_);
  exchange::HostProgress progress;
  progress.passes = passes_;
  progress.computing = computing_;
  if (!computing_.empty()) progress.since = clock_.Now() - began_;
  return progress;
}

absl::Status UnitHost::Health() const {
  absl::MutexLock lock(&mutex_);
  return failed_;
}

// ---- the lane ----

void UnitHost::Serve() {
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
    Finish(std::exchange(work.refused, {}));
    if (!work.swaps.empty()) Compute(std::move(work));
  }
}

UnitHost::Work UnitHost::NextWork() {
  UnitQueue::Pass pass = queue_.Take();
  Work work;
  work.unit = std::move(pass.unit);
  work.swaps = std::move(pass.swaps);
  const absl::Time now = clock_.Now();
  if (work.unit.is_layers()) {
    work.layers = units_.Layers(work.unit.expert);  // its swaps go with it
    std::vector<WaitingSwap> refused;
    work.batch = work.layers->Admit(now, work.swaps, refused);
    work.refused = VerdictsOf(std::move(refused));
  } else {
    work.ffn = units_.Ffn(work.unit.layer);
  }
  if (work.swaps.empty()) return work;
  computing_ = work.unit.ToString();
  began_ = now;
  return work;
}

void UnitHost::Compute(Work work) {
  const absl::Time began = clock_.Now();
  auto results = work.layers != nullptr ? work.layers->Run(work.swaps, work.batch, *memory_)
                                        : RunFfnPass(spec_.layers[work.unit.layer].ffn, *work.ffn,
                                                     work.swaps, *memory_);
  const absl::Duration took = clock_.Now() - began;
  Settle(work, results.ok());
  work.layers.reset();  // where the expert was removed, its memory goes now
  if (!results.ok()) {
    const absl::Status error = Annotate(results.status(), work.unit.ToString());
    if (kernels::IsDeviceFailure(error)) {
      return Finish(AnswersOf(std::move(work.swaps), Fail(error)));
    }
    // Memory that is short now may be there later; what else a pass says will not change.
    const SwapReason reason =
        absl::IsResourceExhausted(error) ? SwapReason::kQueueFull : SwapReason::kInternal;
    return Finish(AnswersOf(std::move(work.swaps), SwapError(reason, error.message())));
  }
  Answers answers;
  for (size_t i = 0; i < work.swaps.size(); ++i) {
    (*results)[i].expert_time = took;
    answers.push_back({std::move(work.swaps[i]), std::move((*results)[i])});
  }
  Finish(std::move(answers));
}

void UnitHost::Settle(const Work& work, bool computed) {
  absl::MutexLock lock(&mutex_);
  ++passes_;
  computing_.clear();
  if (work.layers != nullptr) {
    work.layers->Settle(work.swaps, computed);
  } else {
    units_.CountFfnPass(work.swaps);
  }
}

absl::Status UnitHost::Fail(const absl::Status& error) {
  std::vector<WaitingSwap> waiting;
  absl::Status failed;
  {
    absl::MutexLock lock(&mutex_);
    failed = failed_ = SwapError(SwapReason::kDeviceFailed,
                                 absl::StrCat(device()->Name(), " failed: ", error.message()));
    waiting = queue_.RemoveAll();
  }
  Finish(AnswersOf(std::move(waiting), failed));
  return failed;
}

UnitHost::Answers UnitHost::AnswersOf(std::vector<WaitingSwap> swaps, const absl::Status& error) {
  Answers answers;
  for (WaitingSwap& swap : swaps) answers.push_back({std::move(swap), error});
  return answers;
}

UnitHost::Answers UnitHost::VerdictsOf(std::vector<WaitingSwap> swaps) {
  Answers answers;
  for (WaitingSwap& swap : swaps) {
    const exchange::SwapHeader& header = swap.header();
    exchange::SwapResult result;
    result.verdicts = swap.verdicts;
    result.captured.resize(static_cast<size_t>(header.captured_rows() * header.format.hidden_size));
    answers.push_back({std::move(swap), std::move(result)});
  }
  return answers;
}

void UnitHost::Finish(Answers answers) {
  for (Answer& each : answers) {
    (*each.swap.done)(each.swap.header().id, std::move(each.result));
    each.swap.done.reset();
    absl::MutexLock lock(&mutex_);
    const auto peer = peers_.find(each.swap.peer_id);
    if (peer != peers_.end()) --peer->second.unanswered;
  }
}

}  // namespace ccoe::experts
