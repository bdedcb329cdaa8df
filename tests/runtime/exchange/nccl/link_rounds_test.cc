// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/nccl/link_rounds.h"

#include <deque>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::exchange {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

constexpr size_t kRound = LinkRounds::kRoundBytes;

TEST(LinkRoundsTest, TheLeaderPostsWhatWaitsBothWaysInOneRound) {
  LinkRounds leader(true);
  EXPECT_FALSE(leader.Next().has_value());
  leader.AddSend(1, 100);
  leader.AddSend(2, 200);
  leader.AddReceive(3, 300);
  const auto round = leader.Next();
  ASSERT_TRUE(round.has_value());
  EXPECT_EQ(round->number, 1);
  ASSERT_EQ(round->sends.size(), 2);
  EXPECT_EQ(round->sends[1].transfer, 2);
  EXPECT_EQ(round->sends[1].bytes, 200);
  EXPECT_TRUE(round->sends[1].last);
  ASSERT_EQ(round->receives.size(), 1);
  EXPECT_EQ(round->note().sends, 2);
  EXPECT_EQ(round->note().receives, 1);
}

TEST(LinkRoundsTest, TheOtherEndPostsNothingOfItsOwn) {
  LinkRounds other(false);
  other.AddSend(1, 100);
  EXPECT_FALSE(other.Next().has_value());
  EXPECT_OK(other.Take({1, 0, 1}));
  const auto round = other.Next();
  ASSERT_TRUE(round.has_value());
  EXPECT_EQ(round->sends.size(), 1);
  EXPECT_TRUE(other.peer_posted());
}

TEST(LinkRoundsTest, TheOtherEndWaitsForWhatItSaidItWouldSend) {
  LinkRounds other(false);
  EXPECT_OK(other.Take({1, 0, 1}));
  EXPECT_FALSE(other.Next().has_value());
  other.AddSend(1, 100);
  EXPECT_TRUE(other.Next().has_value());
}

TEST(LinkRoundsTest, TheNextRoundWaitsForThisOneAndForTheOtherEnd) {
  LinkRounds leader(true);
  leader.AddSend(1, 100);
  ASSERT_TRUE(leader.Next().has_value());
  EXPECT_FALSE(leader.peer_posted());
  leader.AddSend(2, 100);
  EXPECT_FALSE(leader.Next().has_value());
  EXPECT_OK(leader.Take({1, 0, 1}));
  EXPECT_TRUE(leader.peer_posted());
  EXPECT_FALSE(leader.Next().has_value());
  leader.Ended();
  EXPECT_FALSE(leader.peer_posted());
  EXPECT_EQ(leader.Next()->number, 2);
  // Through before the other end's word has come.
  leader.Ended();
  leader.AddSend(3, 100);
  EXPECT_FALSE(leader.Next().has_value());
  EXPECT_OK(leader.Take({2, 0, 1}));
  EXPECT_TRUE(leader.Next().has_value());
}

TEST(LinkRoundsTest, LargeTransfersAreCutAndSmallOnesShareARound) {
  LinkRounds leader(true);
  leader.AddSend(1, 2 * kRound + 5);
  leader.AddSend(2, 7);
  leader.AddSend(3, kRound);
  std::vector<std::vector<size_t>> rounds;
  for (uint64_t number = 1; const auto round = leader.Next(); ++number) {
    rounds.emplace_back();
    for (const LinkRounds::Piece& piece : round->sends) rounds.back().push_back(piece.bytes);
    EXPECT_OK(leader.Take({number, 0, static_cast<uint32_t>(round->sends.size())}));
    leader.Ended();
  }
  using V = std::vector<size_t>;
  EXPECT_THAT(rounds, ::testing::ElementsAre(V{kRound}, V{kRound}, V{5, 7}, V{kRound}));
}

TEST(LinkRoundsTest, RefusesNotesOfWhatCannotBe) {
  LinkRounds leader(true);
  leader.AddSend(1, 100);
  EXPECT_THAT(leader.Take({1, 0, 1}), StatusIs(absl::StatusCode::kInvalidArgument));
  ASSERT_TRUE(leader.Next().has_value());
  EXPECT_THAT(leader.Take({2, 0, 1}), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(leader.Take({1, 1, 0}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("as posted here: 0 and 1")));
  EXPECT_OK(leader.Take({1, 0, 1}));
  EXPECT_THAT(leader.Take({1, 0, 1}), StatusIs(absl::StatusCode::kInvalidArgument));
  LinkRounds other(false);
  EXPECT_THAT(other.Take({1, 0, 0}), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(other.Take({2, 0, 1}), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(other.Take({1, 1, 0}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("of at most 0 sends")));
  EXPECT_OK(other.Take({1, 0, 1}));
  EXPECT_THAT(other.Take({2, 0, 1}), StatusIs(absl::StatusCode::kInvalidArgument));
}

// One end with what is on its way to it: headers and notes, in order.
struct End {
  explicit End(bool leads) : rounds(leads) {}
  struct Word {
    size_t header = 0;  // bytes of a transfer that comes, or
    RowCarrier::Note note;
  };
  LinkRounds rounds;
  std::deque<Word> inbox;
  std::optional<LinkRounds::Round> running;
  size_t sent = 0, received = 0;
};

TEST(LinkRoundsTest, WhateverTheTimingBothEndsPostTheSameAndAllGetsThrough) {
  for (uint32_t seed = 1; seed <= 200; ++seed) {
    std::mt19937 random(seed);
    End ends[2] = {End(true), End(false)};
    size_t total[2] = {};
    int left = 40;
    uint64_t transfer = 0;
    for (int step = 0; step < 20000; ++step) {
      End& end = ends[random() % 2];
      End& other = ends[&end == &ends[0] ? 1 : 0];
      switch (random() % 4) {
        case 0:  // a swap's rows leave: header first
          if (left-- <= 0) break;
          {
            const size_t bytes = 1 + random() % (random() % 4 == 0 ? 3 * kRound : 1000);
            total[&end == &ends[0] ? 0 : 1] += bytes;
            other.inbox.push_back({bytes, {}});
            end.rounds.AddSend(++transfer, bytes);
          }
          break;
        case 1:  // a word arrives
          if (end.inbox.empty()) break;
          if (end.inbox.front().header > 0) {
            end.rounds.AddReceive(++transfer, end.inbox.front().header);
          } else {
            ASSERT_OK(end.rounds.Take(end.inbox.front().note));
          }
          end.inbox.pop_front();
          break;
        case 2:  // what can be posted is
          if (end.running.has_value()) break;
          end.running = end.rounds.Next();
          if (end.running.has_value()) other.inbox.push_back({0, end.running->note()});
          break;
        default:  // both have posted: it is through
          if (!ends[0].running.has_value() || !ends[1].running.has_value()) break;
          for (int i = 0; i < 2; ++i) {
            const auto& sends = ends[i].running->sends;
            const auto& receives = ends[1 - i].running->receives;
            ASSERT_EQ(sends.size(), receives.size()) << "seed " << seed;
            for (size_t piece = 0; piece < sends.size(); ++piece) {
              ASSERT_EQ(sends[piece].bytes, receives[piece].bytes);
              ends[i].sent += sends[piece].bytes;
            }
          }
          for (End& each : ends) {
            each.running.reset();
            each.rounds.Ended();
          }
      }
    }
    EXPECT_EQ(ends[0].sent, total[0]) << "seed " << seed;
    EXPECT_EQ(ends[1].sent, total[1]) << "seed " << seed;
  }
}

}  // namespace
}  // namespace ccoe::exchange
