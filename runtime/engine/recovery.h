// What becomes of the queries that a worker did not compute, by the reason it gives.
//
// clang-format off
//   reason                              what happens
//   no KV pages                         of several the younger ones give up their KV and try again after a
//                                       pause that doubles, or when a query of this expert ends
//   queue full, link full               the step is tried again after a pause; all KV stays
//   KV lost, cancelled                  computed again from the first token, 3 times between two tokens
//   link broken, worker stops,          layer expert: computed again from the first token at another worker
//   device failed, unknown expert       with this expert, 8 times between two tokens; while there is none,
//                                       the query waits for one
//                                       FFN experts, that no other worker holds: as for a full queue
//   too long, invalid, internal         the query ends with the error
// clang-format on
//
// A query that waits holds up no other. Waits are bounded: room_patience (full), replica_patience
// (lost) of EngineOptions; then the query ends with an error that names expert, link, swap and
// layers. For KV pages a query also waits while older queries of its expert run, which is as long
// as they take. Determinism makes this invisible: the tokens that come are those of an undisturbed
// run.
#ifndef CCOE_RUNTIME_ENGINE_RECOVERY_H_
#define CCOE_RUNTIME_ENGINE_RECOVERY_H_

#include <cstdint>
#include <memory>
#include <set>
#include <vector>

#include "absl/status/status.h"
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
  };
  // The failures of one swap; the sequences are in a step, or have ended (and are passed over).
  void Recover(std::vector<Failure> failures, absl::Time now);

  // The step of a sequence cannot go on, since nobody takes its rows since `since`: it is tried
  // again after a pause. All KV stays.
  void TryStepAgain(const Failure& failure, absl::Time since, absl::Time now);

  // Looks again for workers for the queries that wait for one. To be called before the views of
  // startable sequences are asked for.
  void SeekReplicas(absl::Time now);

 private:
  void ComputeAgain(const Failure& failure, absl::Time now);
  void GoElsewhere(const Failure& failure, absl::Time now);
  // Ends the query: no worker took over since the first was lost. `last`: what became of the
  // search.
  void GiveUp(const std::shared_ptr<Sequence>& sequence, absl::string_view last, absl::Time now);
  // False: it still waits.
  bool Seek(const std::shared_ptr<Sequence>& sequence, absl::Time now);
  void MakeRoom(const std::vector<Failure>& group, absl::Time now);
  void MakeRoomFor(const Failure& alone, absl::Time now);
  void PutOff(Sequence& sequence, absl::Time now);
  // Ends the query where it waits since too long ago for what its failure calls for; true if it
  // did.
  bool EndIfImpatient(const Failure& failure, absl::Time since, absl::Time now);
  void End(const Failure& failure, absl::Time now);

  const EngineOptions options_;
  SequenceTable* const table_;
  ExpertDirectory* const directory_;
  std::set<uint64_t> seeking_;  // handles of queries without a worker
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_RECOVERY_H_
