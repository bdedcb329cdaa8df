// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/nccl/link_rounds.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace ccoe::exchange {

void LinkRounds::Cut(uint64_t transfer, size_t bytes, std::deque<Piece>& pieces) {
  for (size_t begin = 0; begin < bytes; begin += kRoundBytes) {
    const size_t count = std::min(kRoundBytes, bytes - begin);
    pieces.push_back({transfer, begin, count, begin + count == bytes});
  }
}

size_t LinkRounds::Fit(const std::deque<Piece>& pieces) {
  size_t count = 0, bytes = 0;
  while (count < pieces.size() && bytes + pieces[count].bytes <= kRoundBytes) {
    bytes += pieces[count++].bytes;
  }
  return count;
}

std::vector<LinkRounds::Piece> LinkRounds::Pop(std::deque<Piece>& pieces, size_t count) {
  const auto end = pieces.begin() + static_cast<std::ptrdiff_t>(count);
  std::vector<Piece> popped(pieces.begin(), end);
  pieces.erase(pieces.begin(), end);
  return popped;
}

absl::Status LinkRounds::Take(const RowCarrier::Note& note) {
  const bool next = note.round == peer_round_ + 1;
  // Of what it sends the headers came before: they are in the queue.
  const bool known = leads_ ? note.round == round_ && note.sends == posted_.receives &&
                                  note.receives == posted_.sends
                            : peer_round_ == round_ && note.sends <= receives_.size() &&
                                  (note.sends > 0 || note.receives > 0);
  if (!next || !known) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the peer posted round ", note.round, " of ", note.sends, " sends and ", note.receives,
        " receives: expected round ", peer_round_ + 1,
        leads_ ? absl::StrCat(" as posted here: ", posted_.receives, " and ", posted_.sends)
               : absl::StrCat(" after round ", round_, " was posted here, of at most ",
                              receives_.size(), " sends")));
  }
  peer_round_ = note.round;
  peer_posted_ = note;
  return absl::OkStatus();
}

std::optional<LinkRounds::Round> LinkRounds::Next() {
  if (running_) return std::nullopt;
  size_t sends = 0, receives = 0;
  if (leads_) {
    // The other end has posted all rounds before: it cannot fall behind by more than one.
    if (peer_round_ < round_) return std::nullopt;
    sends = Fit(sends_);
    receives = Fit(receives_);
    if (sends + receives == 0) return std::nullopt;
  } else {
    if (peer_round_ == round_) return std::nullopt;
    sends = peer_posted_.receives;
    receives = peer_posted_.sends;
    // It has read the headers of what goes from here, which may still be on its way to this queue.
    if (sends > sends_.size()) return std::nullopt;
  }
  running_ = true;
  Round round = {++round_, Pop(sends_, sends), Pop(receives_, receives)};
  posted_ = round.note();
  return round;
}

}  // namespace ccoe::exchange
