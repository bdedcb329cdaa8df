// SPDX-License-Identifier: Apache-2.0
// What the two ends of a link post to their one communicator, and when. No threads, no clock, no
// NCCL.
//
// A communicator of two ranks runs what is posted to it one after the other, and a send is through
// only when the other end has posted the receive. Two ends that each posted a send first would wait
// for each other for good. So the ends post in rounds: a round is what goes and what comes next,
// both posted at once, as one group. The opener leads: it sees what both ends have (its own
// transfers, and the other's by the headers that come over the stream), posts a round and says so;
// the other end posts the same and says so.
//
// clang-format off
//   opener (leads)                                     acceptor
//     | header of a swap: 3 transfers of rows follow --> |  has 3 receives
//     | note: round 7: 3 sends, 0 receives ------------> |  posts 3 receives
//     | <----------------- note: round 7 posted          |
//     |               rows, from GPU to GPU              |
// clang-format on
#ifndef CCOE_RUNTIME_EXCHANGE_NCCL_LINK_ROUNDS_H_
#define CCOE_RUNTIME_EXCHANGE_NCCL_LINK_ROUNDS_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "runtime/exchange/row_carrier.h"

namespace ccoe::exchange {

// Of one end. Both ends cut transfers into the same pieces, so that what one posts meets what the
// other does.
class LinkRounds {
 public:
  // Most that goes one way in a round, and so what an end must have room for that stages it.
  static constexpr size_t kRoundBytes = size_t{4} << 20;

  struct Piece {
    uint64_t transfer = 0;
    size_t offset = 0, bytes = 0;
    bool last = false;  // of its transfer
  };
  struct Round {
    uint64_t number = 0;
    std::vector<Piece> sends, receives;
    // What is to be said when it is posted.
    RowCarrier::Note note() const {
      return {number, static_cast<uint32_t>(sends.size()), static_cast<uint32_t>(receives.size())};
    }
  };

  explicit LinkRounds(bool leads) : leads_(leads) {}

  // Transfers of 1 byte or more, in the order of the link's messages.
  void AddSend(uint64_t transfer, size_t bytes) { Cut(transfer, bytes, sends_); }
  void AddReceive(uint64_t transfer, size_t bytes) { Cut(transfer, bytes, receives_); }

  // What the other end has posted. INVALID_ARGUMENT: it cannot have.
  absl::Status Take(const RowCarrier::Note& note);

  // The round to be posted now, if there is one; it runs until Ended. One at a time.
  std::optional<Round> Next();
  void Ended() { running_ = false; }

  // Whether the other end has posted the round that runs: from then on it must get on.
  bool peer_posted() const { return running_ && peer_round_ >= round_; }

 private:
  static void Cut(uint64_t transfer, size_t bytes, std::deque<Piece>& pieces);
  // As many of the first pieces as fit into a round.
  static size_t Fit(const std::deque<Piece>& pieces);
  static std::vector<Piece> Pop(std::deque<Piece>& pieces, size_t count);

  const bool leads_;
  std::deque<Piece> sends_, receives_;
  uint64_t round_ = 0;  // the last one posted here
  bool running_ = false;
  RowCarrier::Note posted_;       // of the last one posted here
  uint64_t peer_round_ = 0;       // the last one posted there
  RowCarrier::Note peer_posted_;  // likewise
};

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_NCCL_LINK_ROUNDS_H_
