#include "runtime/engine/micro_batch.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace ccoe::engine {
namespace {

using exchange::ReturnRows;

bool Together(const LeavingGroup& group, const ExpertBinding& binding, bool capture) {
  return group.capture == capture && group.binding->link == binding.link &&
         group.binding->expert == binding.expert && group.binding->layers == binding.layers;
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
  for (size_t i = 0; i < batch.entries.size(); ++i) {
    const StepEntry& entry = batch.entries[i];
    const ExpertBinding* binding = entry.sequence->binding();
    if (binding == nullptr || binding->layers.first != batch.cursor) continue;
    const bool capture = !entry.hidden.empty();
    auto group = std::find_if(groups.begin(), groups.end(), [&](const LeavingGroup& g) {
      return Together(g, *binding, capture);
    });
    if (group == groups.end()) {
      group =
          groups.insert(groups.end(), LeavingGroup{entry.sequence->shared_binding(), capture, {}});
    }
    group->entries.push_back(i);
  }
  return groups;
}

std::vector<int32_t> RowsOf(const MicroBatch& batch, absl::Span<const size_t> entries) {
  std::vector<int32_t> rows;
  size_t next = 0;
  int64_t begin = 0;
  for (size_t i = 0; i < batch.entries.size() && next < entries.size(); ++i) {
    const int64_t count = batch.entries[i].row_count;
    if (entries[next] == i) {
      ++next;
      for (int64_t r = 0; r < count; ++r) rows.push_back(static_cast<int32_t>(begin + r));
    }
    begin += count;
  }
  return rows;
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
