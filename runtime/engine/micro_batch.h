// SPDX-License-Identifier: Apache-2.0
// A step in flight: the rows of some sequences on their way through the layers. Bookkeeping only;
// no device.
//
// A step begins as one micro batch. At an expert's first layer its rows leave, each group as a
// micro batch of its own in a flight; at a MoE layer with experts elsewhere the whole micro batch
// waits in one. What comes back is a micro batch again, and the step is over with the last of them.
#ifndef CCOE_RUNTIME_ENGINE_MICRO_BATCH_H_
#define CCOE_RUNTIME_ENGINE_MICRO_BATCH_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "runtime/engine/sequence.h"
#include "runtime/exchange/envelope.h"
#include "runtime/model/decoder.h"
#include "runtime/model/head.h"
#include "runtime/model/model_spec.h"

namespace ccoe::engine {

// What the loop formed at one time. It is over when no part of it is in flight any more.
struct Step {
  uint64_t id = 0;
  int64_t rows = 0;
  int64_t sequences = 0;
  int flights = 0;
  absl::Time formed;
};

// One sequence's part of a step: consecutive tokens.
struct StepEntry {
  std::shared_ptr<Sequence> sequence;
  int64_t first_position = 0;
  int64_t row_count = 0;
  std::vector<float> hidden;  // [layers + 1, row_count, hidden_size] where the query wants hidden
                              // states, else empty
  bool withdrawn = false;     // the query tries this step again later

  int64_t end_position() const { return first_position + row_count; }
  // Else what still comes back for it is dropped.
  bool alive() const { return !withdrawn && !sequence->finished(); }
  // Whether the last row's logits choose the next token.
  bool samples() const {
    return sequence->Generates() && end_position() == sequence->known_tokens();
  }
};

// Rows that stand before the same layer, entry after entry.
struct MicroBatch {
  // kAway: moved into a flight, which resumes it; nothing is left here to run.
  enum class State : uint8_t { kRunning, kAway };

  std::shared_ptr<Step> step;
  std::vector<StepEntry> entries;
  State state = State::kRunning;
  int32_t cursor = 0;  // the next layer; moved on by the engine's loop alone
  // Of the rows' logits: the model's or an expert's own, which the entries' bindings keep alive.
  const model::LmHead* head = nullptr;

  bool away() const { return state == State::kAway; }
  // Indices of the entries that are alive.
  std::vector<size_t> Living() const;
};

// Entries of a batch that leave together.
struct LeavingGroup {
  std::shared_ptr<const ExpertBinding> binding;
  bool capture = false;         // their queries want hidden states
  std::vector<size_t> entries;  // indices, rising
};

// Where the batch must stop next: the lowest first layer of an expert ahead, or `end`.
int32_t NextBoundary(const MicroBatch& batch, int32_t end);

// The groups that leave before layer batch.cursor, in order of their first entry.
std::vector<LeavingGroup> GroupsLeaving(const MicroBatch& batch);

// The number of each entry's first row in the batch.
std::vector<int64_t> FirstRows(const MicroBatch& batch);

// Row numbers, in the batch, of the given entries; `first_rows`, where many are asked for.
std::vector<int32_t> RowsOf(const MicroBatch& batch, absl::Span<const size_t> entries,
                            absl::Span<const int64_t> first_rows);
std::vector<int32_t> RowsOf(const MicroBatch& batch, absl::Span<const size_t> entries);

// The entries that no group takes along.
std::vector<size_t> Staying(const MicroBatch& batch, absl::Span<const LeavingGroup> groups);

// Cuts the batch down to the given entries.
void KeepEntries(MicroBatch& batch, absl::Span<const size_t> entries);

// The micro batch as the decoder takes it. Views the sequences' block tables.
model::RowBatch BatchOf(const MicroBatch& batch);

// Which rows an expert of `layers` is to send back for an entry.
exchange::ReturnRows RowsWanted(const StepEntry& entry, model::LayerRange layers,
                                int32_t layer_count);

// What the entries' rows go to their expert as.
exchange::LayerSwap LayerSwapFor(const ExpertBinding& binding, absl::Span<const StepEntry> entries,
                                 int32_t layer_count);

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_MICRO_BATCH_H_
