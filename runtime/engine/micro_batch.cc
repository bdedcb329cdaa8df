// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/micro_batch.h"

#include <algorithm>
#include <numeric>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace ccoe::engine {
namespace {

using exchange::ReturnRows;

// What entries that leave at one layer have in common: link, expert, its last layer, capture.
using GroupKey =
    std::tuple<const exchange::ActivationLink*, absl::string_view, int64_t, int32_t, bool>;

GroupKey KeyOf(const ExpertBinding& binding, bool capture) {
  return {binding.link.get(), binding.expert.name, binding.expert.version, binding.layers.last,
          capture};
}

bool HasExpertAhead(const StepEntry& entry, int32_t cursor) {
  return entry.sequence->binding() != nullptr && entry.sequence->binding()->layers.first >= cursor;
}

bool WantsLogitsOfAny(const StepEntry& entry) {
  for (int64_t p = entry.first_position; p < entry.end_position(); ++p) {
    if (entry.sequence->WantsLogits(p)) return true;
  }
  return false;
}

}  // namespace

std::vector<size_t> MicroBatch::Living() const {
  std::vector<size_t> living;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].alive()) living.push_back(i);
  }
  return living;
}

int32_t NextBoundary(const MicroBatch& batch, int32_t end) {
  int32_t boundary = end;
  for (const StepEntry& entry : batch.entries) {
    if (HasExpertAhead(entry, batch.cursor)) {
      boundary = std::min(boundary, entry.sequence->binding()->layers.first);
    }
  }
  return boundary;
}

std::vector<LeavingGroup> GroupsLeaving(const MicroBatch& batch) {
  std::vector<LeavingGroup> groups;
  absl::flat_hash_map<GroupKey, size_t> known;  // a step may have as many experts as sequences
  for (size_t i = 0; i < batch.entries.size(); ++i) {
    const StepEntry& entry = batch.entries[i];
    const ExpertBinding* binding = entry.sequence->binding();
    if (binding == nullptr || binding->layers.first != batch.cursor) continue;
    const bool capture = !entry.hidden.empty();
    const auto [found, fresh] = known.try_emplace(KeyOf(*binding, capture), groups.size());
    if (fresh) groups.push_back({entry.sequence->shared_binding(), capture, {}});
    groups[found->second].entries.push_back(i);
  }
  return groups;
}

std::vector<int64_t> FirstRows(const MicroBatch& batch) {
  std::vector<int64_t> first;
  first.reserve(batch.entries.size());
  int64_t next = 0;
  for (const StepEntry& entry : batch.entries) {
    first.push_back(next);
    next += entry.row_count;
  }
  return first;
}

std::vector<int32_t> RowsOf(const MicroBatch& batch, absl::Span<const size_t> entries,
                            absl::Span<const int64_t> first_rows) {
  std::vector<int32_t> rows;
  for (const size_t i : entries) {
    for (int64_t r = 0; r < batch.entries[i].row_count; ++r) {
      rows.push_back(static_cast<int32_t>(first_rows[i] + r));
    }
  }
  return rows;
}

std::vector<int32_t> RowsOf(const MicroBatch& batch, absl::Span<const size_t> entries) {
  return RowsOf(batch, entries, FirstRows(batch));
}

std::vector<size_t> Staying(const MicroBatch& batch, absl::Span<const LeavingGroup> groups) {
  std::vector<bool> leaves(batch.entries.size(), false);
  for (const LeavingGroup& group : groups) {
    for (size_t i : group.entries) leaves[i] = true;
  }
  std::vector<size_t> staying;
  for (size_t i = 0; i < leaves.size(); ++i) {
    if (!leaves[i]) staying.push_back(i);
  }
  return staying;
}

void KeepEntries(MicroBatch& batch, absl::Span<const size_t> entries) {
  std::vector<StepEntry> kept;
  kept.reserve(entries.size());
  for (size_t i : entries) kept.push_back(std::move(batch.entries[i]));
  batch.entries = std::move(kept);
}

model::RowBatch BatchOf(const MicroBatch& batch) {
  model::RowBatch rows_of;
  int64_t begin = 0;
  for (const StepEntry& entry : batch.entries) {
    kernels::SequenceRows rows;
    rows.row_begin = begin;
    rows.row_count = entry.row_count;
    rows.first_position = entry.first_position;
    rows.block_table = entry.sequence->pages();
    rows_of.sequences.push_back(rows);
    begin += entry.row_count;
  }
  return rows_of;
}

ReturnRows RowsWanted(const StepEntry& entry, model::LayerRange layers, int32_t layer_count) {
  if (layers.last < layer_count || WantsLogitsOfAny(entry)) return ReturnRows::kAll;
  return entry.samples() ? ReturnRows::kLast : ReturnRows::kNone;
}

exchange::LayerSwap LayerSwapFor(const ExpertBinding& binding, absl::Span<const StepEntry> entries,
                                 int32_t layer_count) {
  exchange::LayerSwap swap;
  swap.expert = binding.expert;
  swap.layers = binding.layers;
  for (const StepEntry& entry : entries) {
    exchange::SwapSequence sequence;
    sequence.sequence_id = entry.sequence->link_id();
    sequence.first_position = entry.first_position;
    sequence.row_count = entry.row_count;
    sequence.return_rows = RowsWanted(entry, binding.layers, layer_count);
    swap.sequences.push_back(sequence);
    swap.capture_layers = swap.capture_layers || !entry.hidden.empty();
  }
  return swap;
}

}  // namespace ccoe::engine
