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

int32_t NextBoundary(const MicroBatch& branch, int32_t end) {
  int32_t boundary = end;
  for (const StepEntry& entry : branch.entries) {
    if (HasExpertAhead(entry, branch.cursor)) {
      boundary = std::min(boundary, entry.sequence->binding()->layers.first);
    }
  }
  return boundary;
}

std::vector<LeavingGroup> GroupsLeaving(const MicroBatch& branch) {
  std::vector<LeavingGroup> groups;
  for (size_t i = 0; i < branch.entries.size(); ++i) {
    const StepEntry& entry = branch.entries[i];
    const ExpertBinding* binding = entry.sequence->binding();
    if (binding == nullptr || binding->layers.first != branch.cursor) continue;
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

std::vector<int32_t> RowsOf(const MicroBatch& branch, absl::Span<const size_t> entries) {
  std::vector<int32_t> rows;
  size_t next = 0;
  int64_t begin = 0;
  for (size_t i = 0; i < branch.entries.size() && next < entries.size(); ++i) {
    const int64_t count = branch.entries[i].row_count;
    if (entries[next] == i) {
      ++next;
      for (int64_t r = 0; r < count; ++r) rows.push_back(static_cast<int32_t>(begin + r));
    }
    begin += count;
  }
  return rows;
}

std::vector<size_t> Staying(const MicroBatch& branch, absl::Span<const LeavingGroup> groups) {
  std::vector<bool> leaves(branch.entries.size(), false);
  for (const LeavingGroup& group : groups) {
    for (size_t i : group.entries) leaves[i] = true;
  }
  std::vector<size_t> staying;
  for (size_t i = 0; i < leaves.size(); ++i) {
    if (!leaves[i]) staying.push_back(i);
  }
  return staying;
}

std::vector<StepEntry> MoveOut(MicroBatch& branch, absl::Span<const size_t> entries) {
  std::vector<StepEntry> out;
  out.reserve(entries.size());
  for (size_t i : entries) out.push_back(std::move(branch.entries[i]));
  return out;
}

void KeepEntries(MicroBatch& branch, absl::Span<const size_t> entries) {
  branch.entries = MoveOut(branch, entries);
}

model::RowBatch BatchOf(const MicroBatch& branch) {
  model::RowBatch batch;
  int64_t begin = 0;
  for (const StepEntry& entry : branch.entries) {
    kernels::SequenceRows rows;
    rows.row_begin = begin;
    rows.row_count = entry.row_count;
    rows.first_position = entry.first_position;
    rows.block_table = entry.sequence->pages();
    batch.sequences.push_back(rows);
    begin += entry.row_count;
  }
  return batch;
}

ReturnRows RowsWanted(const StepEntry& entry, model::LayerRange layers, int32_t layer_count) {
  if (layers.last < layer_count || WantsLogitsOfAny(entry)) return ReturnRows::kAll;
  return entry.samples() ? ReturnRows::kLast : ReturnRows::kNone;
}

exchange::StepHeader HeaderFor(const ExpertBinding& binding, absl::Span<const StepEntry> entries,
                               int32_t layer_count) {
  exchange::StepHeader header;
  header.expert = binding.expert;
  header.layers = binding.layers;
  for (const StepEntry& entry : entries) {
    exchange::SwapSequence sequence;
    sequence.sequence_id = entry.sequence->link_id();
    sequence.first_position = entry.first_position;
    sequence.row_count = entry.row_count;
    sequence.return_rows = RowsWanted(entry, binding.layers, layer_count);
    header.sequences.push_back(sequence);
    header.capture_layers = header.capture_layers || !entry.hidden.empty();
  }
  return header;
}

}  // namespace ccoe::engine
