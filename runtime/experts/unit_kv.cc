// SPDX-License-Identifier: Apache-2.0
#include "runtime/experts/unit_kv.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/swap_reason.h"

namespace ccoe::experts {

using exchange::SwapError;
using exchange::SwapReason;
using exchange::SwapSequence;

absl::Status UnitKv::Check(const Held* held, const SwapSequence& sequence) const {
  const int64_t end = sequence.first_position + sequence.row_count;
  if (end > total_tokens() || end > max_positions_) {
    return SwapError(SwapReason::kTooLong,
                     absl::StrCat("sequence ", sequence.sequence_id, " grows to ", end,
                                  " tokens; the expert's whole KV cache holds ", total_tokens(),
                                  ", and the model has at most ", max_positions_, " positions"));
  }
  const int64_t tokens = held == nullptr ? 0 : held->tokens;
  if (sequence.first_position > tokens) {
    return SwapError(SwapReason::kKvLost,
                     absl::StrCat("KV of sequence ", sequence.sequence_id, ": expected ",
                                  sequence.first_position, " tokens before the swap's rows, found ",
                                  tokens, "; recompute from position 0"));
  }
  return absl::OkStatus();
}

absl::Status UnitKv::CheckPages(uint64_t peer_id, uint64_t sequence_id, int64_t more,
                                absl::Time now) {
  Peer& peer = peers_[peer_id];
  int64_t sharers = 1;
  bool others_wait = false;
  for (const auto& [id, other] : peers_) {
    if (id == peer_id) continue;
    const bool waits = other.claim > now;
    others_wait = others_wait || waits;
    if (waits || other.pages > 0) ++sharers;
  }
  const int64_t share = pages_.pages() / sharers;
  const bool within_share = peer.pages + more <= share;
  if (more <= pages_.free_pages() && (within_share || !others_wait)) {
    peer.claim = absl::InfinitePast();
    return absl::OkStatus();
  }
  if (within_share) peer.claim = now + kClaim;
  return SwapError(
      SwapReason::kNoPages,
      absl::StrCat("out of KV pages: sequence ", sequence_id, " needs ", more, " more of ",
                   pages_.page_tokens(), " tokens, ", pages_.free_pages(), " of ", pages_.pages(),
                   " are free",
                   more <= pages_.free_pages()
                       ? absl::StrCat(" and kept for peers below their share of ", share)
                       : ""));
}

void UnitKv::Resize(uint64_t peer_id, int64_t tokens, model::BlockTable& table) {
  const auto before = static_cast<int64_t>(table.size());
  CCOE_CHECK(pages_.Grow(tokens, table).ok());
  pages_.Shrink(tokens, table);
  const auto peer = peers_.try_emplace(peer_id).first;
  peer->second.pages += static_cast<int64_t>(table.size()) - before;
  if (peer->second.pages == 0 && peer->second.claim == absl::InfinitePast()) peers_.erase(peer);
}

absl::Status UnitKv::Admit(uint64_t peer_id, const SwapSequence& sequence, absl::Time now) {
  const Key key = {peer_id, sequence.sequence_id};
  const auto found = held_.find(key);
  const Held* const before = found == held_.end() ? nullptr : &found->second;
  CCOE_RETURN_IF_ERROR(Check(before, sequence));
  const int64_t end = sequence.first_position + sequence.row_count;
  const auto pages = before == nullptr ? 0 : static_cast<int64_t>(before->table.size());
  if (const int64_t more = pages_.PagesFor(end) - pages; more > 0) {
    CCOE_RETURN_IF_ERROR(CheckPages(peer_id, sequence.sequence_id, more, now));
  }
  Held& held = held_[key];
  CCOE_CHECK(!held.in_pass);
  Resize(peer_id, end, held.table);
  held.tokens = sequence.first_position;
  held.in_pass = true;
  return absl::OkStatus();
}

void UnitKv::Settle(uint64_t peer_id, const SwapSequence& sequence, int64_t tokens) {
  const auto held = held_.find({peer_id, sequence.sequence_id});
  CCOE_CHECK(held != held_.end() && held->second.in_pass);
  held->second.in_pass = false;
  held->second.tokens = held->second.released ? 0 : tokens;
  if (held->second.tokens == 0) {
    Free(held);
  } else {
    Resize(peer_id, tokens, held->second.table);
  }
}

void UnitKv::Commit(uint64_t peer_id, const SwapSequence& sequence) {
  Settle(peer_id, sequence, sequence.first_position + sequence.row_count);
}

void UnitKv::Abandon(uint64_t peer_id, const SwapSequence& sequence) {
  Settle(peer_id, sequence, sequence.first_position);
}

const model::BlockTable& UnitKv::Table(uint64_t peer_id, uint64_t sequence_id) const {
  return held_.at({peer_id, sequence_id}).table;
}

std::map<UnitKv::Key, UnitKv::Held>::iterator UnitKv::Free(std::map<Key, Held>::iterator held) {
  Resize(held->first.first, 0, held->second.table);
  return held_.erase(held);
}

void UnitKv::Release(uint64_t peer_id, uint64_t sequence_id) {
  const auto held = held_.find({peer_id, sequence_id});
  if (held == held_.end()) return;
  if (held->second.in_pass) {
    held->second.released = true;
  } else {
    Free(held);
  }
}

void UnitKv::ReleasePeer(uint64_t peer_id) {
  auto held = held_.lower_bound({peer_id, 0});
  while (held != held_.end() && held->first.first == peer_id) held = Free(held);
  peers_.erase(peer_id);
}

}  // namespace ccoe::experts
