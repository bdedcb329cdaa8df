#include "runtime/experts/expert_kv.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"

namespace ccoe::experts {

absl::Status ExpertKv::Check(uint64_t peer_id, const exchange::StepHeader& header) const {
  int64_t missing = 0;
  for (const exchange::SwapSequence& sequence : header.sequences) {
    const auto found = held_.find({peer_id, sequence.sequence_id});
    const int64_t tokens = found == held_.end() ? 0 : found->second.tokens;
    const int64_t held_pages =
        found == held_.end() ? 0 : static_cast<int64_t>(found->second.table.size());
    if (sequence.first_position > tokens) {
      return absl::FailedPreconditionError(absl::StrCat(
          "KV of sequence ", sequence.sequence_id, ": expected ", sequence.first_position,
          " tokens before the swap's rows, found ", tokens, "; recompute from position 0"));
    }
    const int64_t end = sequence.first_position + sequence.row_count;
    if (end > total_tokens()) {
      return absl::InvalidArgumentError(
          absl::StrCat("sequence ", sequence.sequence_id, " grows to ", end,
                       " tokens; the expert's whole KV cache holds ", total_tokens()));
    }
    missing += std::max<int64_t>(0, pages_.PagesFor(end) - held_pages);
  }
  if (missing > pages_.free_pages()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("out of KV pages: the swap needs ", missing, " more of ", pages_.page_tokens(),
                     " tokens, ", pages_.free_pages(), " of ", pages_.pages(), " are free"));
  }
  return absl::OkStatus();
}

absl::Status ExpertKv::Admit(uint64_t peer_id, const exchange::StepHeader& header) {
  CCOE_RETURN_IF_ERROR(Check(peer_id, header));
  for (const exchange::SwapSequence& sequence : header.sequences) {
    Held& held = held_[{peer_id, sequence.sequence_id}];
    const int64_t end = sequence.first_position + sequence.row_count;
    CCOE_CHECK(pages_.Grow(end, held.table).ok());
    pages_.Shrink(end, held.table);
    held.tokens = sequence.first_position;
  }
  return absl::OkStatus();
}

void ExpertKv::Commit(uint64_t peer_id, const exchange::StepHeader& header) {
  for (const exchange::SwapSequence& sequence : header.sequences) {
    held_.at({peer_id, sequence.sequence_id}).tokens = sequence.first_position + sequence.row_count;
  }
}

void ExpertKv::Abandon(uint64_t peer_id, const exchange::StepHeader& header) {
  for (const exchange::SwapSequence& sequence : header.sequences) {
    Held& held = held_.at({peer_id, sequence.sequence_id});
    pages_.Shrink(held.tokens, held.table);
    if (held.tokens == 0) held_.erase({peer_id, sequence.sequence_id});
  }
}

const model::BlockTable& ExpertKv::Table(uint64_t peer_id, uint64_t sequence_id) const {
  return held_.at({peer_id, sequence_id}).table;
}

void ExpertKv::Release(uint64_t peer_id, uint64_t sequence_id) {
  const auto found = held_.find({peer_id, sequence_id});
  if (found == held_.end()) return;
  pages_.Free(found->second.table);
  held_.erase(found);
}

void ExpertKv::ReleasePeer(uint64_t peer_id) {
  auto it = held_.lower_bound({peer_id, 0});
  while (it != held_.end() && it->first.first == peer_id) {
    pages_.Free(it->second.table);
    it = held_.erase(it);
  }
}

}  // namespace ccoe::experts
