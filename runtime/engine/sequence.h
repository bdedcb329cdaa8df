// SPDX-License-Identifier: Apache-2.0
// One query on its way through the engine: its tokens, how far they are computed, its KV pages,
// what its sink has had.
//
// clang-format off
//   kWaiting --Admit--> kRunnable --BeginStep--> kInStep --EndStep or AbortStep--> kRunnable
//       ^------------------Preempt---'                                  any state --Finish--> kFinished
// clang-format on
#ifndef CCOE_RUNTIME_ENGINE_SEQUENCE_H_
#define CCOE_RUNTIME_ENGINE_SEQUENCE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "kernels/sample.h"
#include "runtime/engine/directory.h"
#include "runtime/engine/request.h"
#include "runtime/model/ffn.h"
#include "runtime/model/kv_cache.h"

namespace ccoe::engine {

// Whether a penalty is in force.
bool NeedsCounts(const SamplingParams& params);

// Which tokens a query has seen, for its penalties. Not thread-safe.
class TokenCounts {
 public:
  void AddPrompt(absl::Span<const int32_t> ids) {
    for (int32_t id : ids) Entry(id);
  }
  void AddAnswer(int32_t id) { ++Entry(id).answer_count; }

  // Every id of prompt and answer, with how often it stands in the answer (0: in the prompt only);
  // in order of first appearance. Valid until the next Add.
  absl::Span<const kernels::TokenCount> entries() const { return entries_; }

 private:
  kernels::TokenCount& Entry(int32_t id) {
    const auto [found, fresh] = places_.try_emplace(id, entries_.size());
    if (fresh) entries_.push_back({id, 0});
    return entries_[found->second];
  }

  absl::flat_hash_map<int32_t, size_t> places_;
  std::vector<kernels::TokenCount> entries_;
};

enum class SequenceState : uint8_t { kWaiting, kRunnable, kInStep, kFinished };

struct SequenceInit {
  uint64_t handle = 0;  // rises with admission: a lower handle is older
  EngineRequest query;
  std::unique_ptr<TokenSink> sink;
  std::shared_ptr<const ExpertBinding> binding;  // null: no expert
  std::vector<int32_t> stop_ids;                 // ids that end the answer
  uint64_t seed = 0;
  int64_t max_tokens = 0;  // cut to what context and KV capacity leave; 0: scoring alone
  absl::Time submitted;
};

// What a query has been through; see recovery.h.
struct RecoveryState {
  // Since its last token.
  int pauses = 0;  // put off, or paused with its KV: no room, or nobody to compute its rows
  absl::Duration short_of_kv;  // for lack of KV pages, which no other query of ours held
  int lost_kv = 0;             // the expert had lost the KV
  int lost_workers = 0;

  // How long it waited since it last got on by a step: for somebody to take its rows, and for a
  // worker of its expert. Time in which it waits for its turn does not count.
  absl::Duration stalled, without_worker;
  absl::Time seeking_since = absl::InfiniteFuture();  // a worker; finite while needs_replica

  bool needs_replica = false;  // none is found yet
  absl::Status why;  // the worker was lost, as the query would end with; OK: there never was one
  LinkList avoid;    // links that failed, or had no room

  void GotOn() {
    stalled = absl::ZeroDuration();
    without_worker = absl::ZeroDuration();
  }
};

// Used by the engine's thread alone.
class Sequence {
 public:
  explicit Sequence(SequenceInit init);

  uint64_t handle() const { return init_.handle; }
  const EngineRequest& query() const { return init_.query; }
  const ExpertBinding* binding() const { return init_.binding.get(); }
  const std::shared_ptr<const ExpertBinding>& shared_binding() const { return init_.binding; }
  // Its expert is known, and no worker served it when it was bound.
  bool awaits_worker() const { return binding() != nullptr && binding()->link == nullptr; }
  absl::Span<const int32_t> stop_ids() const { return init_.stop_ids; }
  const TokenCounts& counts() const { return counts_; }
  uint64_t seed() const { return init_.seed; }
  absl::Time submitted() const { return init_.submitted; }
  SequenceState state() const { return state_; }
  bool finished() const { return state_ == SequenceState::kFinished; }
  // Whether it keeps KV where queries of `binding` do.
  bool SharesKv(const ExpertBinding& binding) const;

  // Tokens. Known: prompt and answer so far. Computed: the first so many have KV in this
  // incarnation.
  int64_t prompt_tokens() const { return prompt_tokens_; }
  int64_t known_tokens() const { return static_cast<int64_t>(tokens_.size()); }
  int64_t computed_tokens() const { return computed_; }
  int64_t generated_tokens() const { return known_tokens() - prompt_tokens_; }
  absl::Span<const int32_t> Tokens(int64_t first, int64_t count) const;
  bool Generates() const { return init_.max_tokens > 0; }
  bool IsStop(int32_t id) const;
  bool HoldsBackStops() const { return generated_tokens() < init_.query.sampling.min_tokens; }

  // State changes; a change that the diagram does not have is a bug and aborts. `link_id` names
  // this incarnation to links.
  void Admit(uint64_t link_id, absl::Time now);
  void BeginStep(uint64_t step_id);
  void EndStep(int64_t rows);  // the rows have KV now
  void AbortStep();            // they do not: to be run again
  void Preempt();              // all KV is given up; tokens stay
  // Calls OnFinish and lets go of the sink.
  void Finish(FinishReason reason, const absl::Status& status, absl::Time now);

  // Adds a token to the answer and passes it on. True if it was the last one.
  bool Emit(const GeneratedToken& token, absl::Time now);

  // Whether the sink still wants the logits (hidden states) of a position: after a preemption it
  // has had some.
  bool WantsLogits(int64_t position) const;
  bool WantsHidden(int64_t first_position, int64_t rows) const;
  // logits [n, vocab_size] of positions from first_position on, all wanted.
  void EmitLogits(int64_t first_position, int64_t rows, absl::Span<const float> logits);
  // hidden [planes, rows, hidden_size]; passes on the rows the sink has not had.
  void EmitHidden(int64_t first_position, int64_t rows, int64_t planes,
                  absl::Span<const float> hidden);

  // The choices of rows [row_begin, row_begin + rows) of `routed`, this query's, where it asked.
  void EmitRouting(int64_t first_position, int64_t rows, int64_t row_begin,
                   const model::RoutedRows& routed) const;

  Usage UsageAt(absl::Time now) const;
  absl::Time first_token() const { return first_token_; }
  absl::Time last_token() const { return last_token_; }

  // Owned by the sequence table's page pool.
  model::BlockTable& pages() { return pages_; }
  const model::BlockTable& pages() const { return pages_; }

  uint64_t link_id() const { return link_id_; }
  uint64_t last_step() const { return last_step_; }

  // Goes on at another worker; waiting, so that it is computed there from its first token on.
  void Rebind(std::shared_ptr<const ExpertBinding> replica);
  // That Rebind was called for because a worker was lost.
  void CountFailover() { ++failovers_; }

  // Kept by recovery.
  RecoveryState recovery;
  // Kept by the sequence table.
  bool swapped = false;                          // the link may hold KV of this incarnation
  absl::Time not_before = absl::InfinitePast();  // neither admitted nor put into a step before
  int64_t promised_pages = 0;                    // it will still take for the tokens it knows

 private:
  void MoveTo(SequenceState from, SequenceState to);

  SequenceInit init_;
  SequenceState state_ = SequenceState::kWaiting;
  int64_t prompt_tokens_;
  std::vector<int32_t> tokens_;
  TokenCounts counts_;
  bool counting_;
  int64_t computed_ = 0;
  model::BlockTable pages_;
  uint64_t link_id_ = 0;
  uint64_t last_step_ = 0;
  int64_t logits_emitted_ = 0;
  int64_t hidden_emitted_ = 0;
  int64_t preemptions_ = 0;
  int64_t failovers_ = 0;
  bool numerics_changed_ = false;
  absl::Time admitted_ = absl::InfiniteFuture();  // first time
  absl::Time first_token_ = absl::InfiniteFuture();
  absl::Time last_token_ = absl::InfiniteFuture();
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_SEQUENCE_H_
