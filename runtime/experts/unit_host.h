// SPDX-License-Identifier: Apache-2.0
// The host of an expert worker's units: what it does with the swaps of all backbone workers.
//
//   HandleEnvelope ─► checked, ─► UnitQueue ─► the lane, one thread with the device's ops:
//   (links' threads)  accepted    by unit        1. takes the unit that waits longest, merged
//                                                2. layer expert: room in its KV, or a verdict
//                                                3. a pass (RunLayerPass, RunFfnPass)
//   done(id, result) ◄────────────────────────── 4. KV held or given back, answers
//
// A unit is a layer expert (decoder layers with a KV cache of their own) or the FFN experts of one
// MoE layer (stateless). Both kinds share the queue, the thread, the ops and their device memory.
// Layer experts come and go while it serves: a pass keeps the handle it began with, and the memory
// goes with the last handle.
//
// Faults stay where they belong. A sequence that finds no room, whose KV is not there or that was
// released is left out with a verdict, alone. A swap that makes no sense for this worker is
// answered alone. An error of the device ends everything: the host says so (Health), answers what
// waits and what comes with kDeviceFailed, and computes nothing any more.
#ifndef CCOE_RUNTIME_EXPERTS_UNIT_HOST_H_
#define CCOE_RUNTIME_EXPERTS_UNIT_HOST_H_

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "kernels/device.h"
#include "kernels/ops.h"
#include "runtime/base/clock.h"
#include "runtime/base/ids.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/experts/bundle.h"
#include "runtime/experts/layer_unit.h"
#include "runtime/experts/pass_memory.h"
#include "runtime/experts/unit_queue.h"
#include "runtime/experts/unit_registry.h"
#include "runtime/model/ffn_shard.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"

namespace ccoe::experts {

// Thread-safe. Calls of one envelope's `done` may overlap.
class UnitHost final : public exchange::SwapHandler {
 public:
  // Takes the device memory of passes; a layer expert that is added takes that of its KV. `ops`
  // runs on the host's thread only; its device outlives the host.
  static absl::StatusOr<std::unique_ptr<UnitHost>> Create(const model::ModelSpec& spec,
                                                          std::unique_ptr<kernels::Ops> ops,
                                                          const UnitHostOptions& options);
  // Ends what waits with kShuttingDown.
  ~UnitHost() override;

  // Makes a layer expert available, while the host serves: from the next swap on. ALREADY_EXISTS
  // for a version that is there; FAILED_PRECONDITION where options say that there are none.
  absl::Status AddExpert(const Bundle& bundle) ABSL_LOCKS_EXCLUDED(mutex_);
  // Takes its name away: swaps that wait and later ones get kUnknownExpert. Weights and KV are
  // given back at once, or with the pass that runs. NOT_FOUND where it is not there.
  absl::Status RemoveExpert(const ExpertRef& expert) ABSL_LOCKS_EXCLUDED(mutex_);

  // Holds FFN experts too, with their tensors from `weights` (kept alive). Checks all before it
  // adds any; errors name the tensor. What is held already is passed over.
  absl::Status AddShard(const model::FfnShard& shard, std::shared_ptr<const model::Weights> weights)
      ABSL_LOCKS_EXCLUDED(mutex_);

  HostLoad Load() const ABSL_LOCKS_EXCLUDED(mutex_);

  void HandleEnvelope(uint64_t peer_id, exchange::Envelope envelope,
                      exchange::SwapCallback done) override ABSL_LOCKS_EXCLUDED(mutex_);
  void HandleCancel(uint64_t peer_id, const std::vector<uint64_t>& swap_ids) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void HandleRelease(uint64_t peer_id, uint64_t sequence_id) override ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t AddPeer() override ABSL_LOCKS_EXCLUDED(mutex_);
  void RemovePeer(uint64_t peer_id) override ABSL_LOCKS_EXCLUDED(mutex_);
  exchange::HostProgress Progress() const override ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Health() const override ABSL_LOCKS_EXCLUDED(mutex_);
  kernels::Device* device() const override { return &memory_->device(); }
  int64_t hidden_size() const override { return spec_.hidden_size; }
  std::string numerics() const override { return options_.numerics; }

 private:
  struct Peer {
    int64_t unanswered = 0;  // swaps
    bool leaving = false;
  };
  // A swap that is over and what its callback is to be told.
  struct Answer {
    WaitingSwap swap;
    absl::StatusOr<exchange::SwapResult> result;
  };
  using Answers = std::vector<Answer>;
  // What the lane does next; one of `layers` and `ffn` is set where there are swaps.
  struct Work {
    UnitKey unit;
    std::vector<WaitingSwap> swaps;
    std::shared_ptr<LayerUnit> layers;
    model::RowBatch batch;  // of layers; views its KV's block tables
    std::shared_ptr<const UnitRegistry::FfnExperts> ffn;
    Answers refused;
  };

  UnitHost(const model::ModelSpec& spec, std::unique_ptr<PassMemory> memory,
           const UnitHostOptions& options);

  absl::Status Accept(WaitingSwap& swap) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckServes() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  void Serve() ABSL_LOCKS_EXCLUDED(mutex_);
  Work NextWork() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Compute(Work work) ABSL_LOCKS_EXCLUDED(mutex_);
  void Settle(const Work& work, bool computed) ABSL_LOCKS_EXCLUDED(mutex_);
  // From now on nothing is computed; what waits and comes gets the error that is returned.
  absl::Status Fail(const absl::Status& error) ABSL_LOCKS_EXCLUDED(mutex_);

  // Every swap of `swaps` gets `error`.
  static Answers AnswersOf(std::vector<WaitingSwap> swaps, const absl::Status& error);
  // Every swap of `swaps`, of which nothing was computed, gets its verdicts.
  static Answers VerdictsOf(std::vector<WaitingSwap> swaps);
  void Finish(Answers answers) ABSL_LOCKS_EXCLUDED(mutex_);

  const model::ModelSpec spec_;
  const UnitHostOptions options_;
  const Clock& clock_;
  const std::unique_ptr<PassMemory> memory_;  // the lane's; its device is everybody's

  mutable absl::Mutex mutex_;
  UnitQueue queue_ ABSL_GUARDED_BY(mutex_);
  UnitRegistry units_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint64_t, Peer> peers_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_peer_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status failed_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  // Of Progress.
  uint64_t passes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string computing_ ABSL_GUARDED_BY(mutex_);
  absl::Time began_ ABSL_GUARDED_BY(mutex_);

  std::thread lane_;
};

}  // namespace ccoe::experts

#endif  // CCOE_RUNTIME_EXPERTS_UNIT_HOST_H_
