// SPDX-License-Identifier: Apache-2.0
// What becomes of the queries that a worker did not compute, by the reason it gives.
//
// clang-format off
//   reason                              what happens
//   no KV pages                         of several the younger ones give up their KV and try again after a
//                                       pause that doubles, or when a query of this expert ends
//   queue full, link full               the step is tried again after a pause; all KV stays. A query
//                                       without KV may go to another worker
//   KV lost, cancelled                  computed again from the first token, 3 times between two tokens
//   link broken, worker stops,          layer expert: computed again from the first token at another worker
//   device failed, unknown expert       with this expert, 8 times between two tokens; while there is none,
//                                       the query waits for one
//                                       FFN experts, that no other worker holds: as for a full queue
//   too long, invalid, internal         the query ends with the error
// clang-format on
//
// A query that is put off is bound anew when its turn comes: at a worker with more room, or one
// that came meanwhile. A query that comes while no worker serves its expert waits for one like a
// query whose worker was lost; a quarter of the admission queue may.
//
// A query that waits holds up no other. Waits are bounded: room_patience (full), replica_patience
// (lost) of EngineOptions; then the query ends with an error that names expert, link, swap and
// layers. What counts is the time of its pauses and that without a worker, not that in which it
// waits for its turn. For KV pages a query also waits while others of this engine hold some at its
// expert, as long as they take.
// Determinism makes this invisible: the tokens that come are those of an undisturbed run.
#ifndef CCOE_RUNTIME_ENGINE_RECOVERY_H_
#define CCOE_RUNTIME_ENGINE_RECOVERY_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "runtime/engine/directory.h"
#include "runtime/engine/engine_options.h"
#include "runtime/engine/sequence_table.h"

namespace ccoe::engine {

// How often a query whose KV was lost is computed again without making progress.
inline constexpr int kMaxLostKvRetries = 3;
// And how many workers one may lose: it may be the query that breaks them.
inline constexpr int kMaxLostWorkers = 8;

// Before a worker is asked again that was asked `tries` times: 5 ms, doubling up to 1.28 s.
absl::Duration PauseBefore(int tries);
// Whether a worker that says so has room later.
bool MeansFull(exchange::SwapReason reason);

// Used by the engine's thread alone.
class Recovery {
 public:
  // `directory` may be null: there are no replicas. Both pointers must outlive the recovery.
  Recovery(const EngineOptions& options, SequenceTable* table, ExpertDirectory* directory)
      : options_(options), table_(table), directory_(directory) {}

  // A sequence of a swap that was not computed, and why: a SwapError that names the swap.
  struct Failure {
    std::shared_ptr<Sequence> sequence;
    absl::Status error;
    bool at_expert = false;  // the layer expert's worker said so; else one of FFN experts
  };
  // The failures of one swap; the sequences are in a step, or have ended (and are passed over).
  void Recover(std::vector<Failure> failures, absl::Time now);

  // The step of a sequence cannot go on, since nobody takes its rows, for which it waited within
  // the step for so long: it is tried again after a pause. All KV stays; a query that has none yet
  // may go to another worker of its layer expert, where it was that one who had no room.
  void TryStepAgain(const Failure& failure, absl::Duration waited, absl::Time now);

  // A query that came when no worker served its expert waits for one.
  void AwaitWorker(const std::shared_ptr<Sequence>& sequence, absl::Time now);

  // Looks again for workers for the queries that wait for one. To be called before the views of
  // startable sequences are asked for, whenever a pause has ended: they are paused in between.
  void SeekReplicas(absl::Time now);

  // The worker that serves the expert of a waiting query best now: what was chosen when it came may
  // be full, gone, or busier than another by the time its turn comes. To be called before Admit.
  void ChooseWorker(Sequence& sequence);

 private:
  void ComputeAgain(const Failure& failure, absl::Time now);
  void GoElsewhere(const Failure& failure, absl::Time now);
  // Why nobody serves an expert with its weights, but for some links: as found in one round of
  // seeking, so that a thousand queries of one expert cost one look.
  using Missing =
      std::map<std::tuple<ExpertRef, std::string, std::vector<const void*>>, absl::Status>;
  // Ends the query: no worker took over. `last`: what became of the search.
  void GiveUp(const std::shared_ptr<Sequence>& sequence, absl::string_view last, absl::Time now);
  // False: it still waits.
  bool Seek(const std::shared_ptr<Sequence>& sequence, Missing& missing, absl::Time now);
  absl::StatusOr<std::shared_ptr<const ExpertBinding>> FindWorker(const Sequence& sequence,
                                                                  const LinkList& avoid,
                                                                  Missing& missing);
  void MakeRoom(const std::vector<Failure>& group, absl::Time now);
  void MakeRoomFor(const Failure& alone, absl::Time now);
  // Whether another query of this engine holds KV where `sequence` wants some.
  bool OursHoldKv(const Sequence& sequence) const;
  // `who` gives way, or ends with the failure's error where it has waited for too long.
  void PutOffForRoom(const Failure& failure, const std::shared_ptr<Sequence>& who, absl::Time now);
  // It gives up its KV and tries again after a pause, at another worker where one has room.
  void PutOff(Sequence& sequence, absl::Duration pause, absl::Time now);
  // Ends the query where it waited for too long for what its failure calls for; true if it did.
  bool EndIfImpatient(const Failure& failure, absl::Duration waited, absl::Time now);
  void End(const Failure& failure, absl::Time now);

  const EngineOptions options_;
  SequenceTable* const table_;
  ExpertDirectory* const directory_;
  std::set<uint64_t> seeking_;  // handles of queries without a worker
  absl::Time next_seek_ = absl::InfinitePast();
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_RECOVERY_H_
