#include "runtime/experts/expert_kv.h"

#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::experts {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::SizeIs;

using exchange::ReturnRows;

exchange::StepHeader Rows(std::vector<exchange::SwapSequence> sequences) {
  exchange::StepHeader header;
  header.sequences = std::move(sequences);
  return header;
}

TEST(ExpertKvTest, HoldsWhatWasCommitted) {
  ExpertKv kv(8, 4);
  const exchange::StepHeader prompt = Rows({{1, 0, 5, ReturnRows::kLast}});
  ASSERT_OK(kv.Admit(1, prompt));
  EXPECT_THAT(kv.Table(1, 1), SizeIs(2));
  // Not computed yet: the next rows have nothing to stand on.
  EXPECT_THAT(kv.Admit(1, Rows({{1, 5, 1, ReturnRows::kLast}})),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  kv.Commit(1, prompt);
  EXPECT_OK(kv.Admit(1, Rows({{1, 5, 1, ReturnRows::kLast}})));
  EXPECT_EQ(kv.used_tokens(), 8);
  EXPECT_EQ(kv.total_tokens(), 32);
}

TEST(ExpertKvTest, AGapMeansRecomputeFromZero) {
  ExpertKv kv(8, 4);
  EXPECT_THAT(
      kv.Admit(1, Rows({{7, 9, 1, ReturnRows::kLast}})),
      StatusIs(absl::StatusCode::kFailedPrecondition,
               HasSubstr("KV of sequence 7: expected 9 tokens before the swap's rows, found 0")));
}

TEST(ExpertKvTest, AnEarlierStartDropsWhatFollows) {
  ExpertKv kv(8, 4);
  const exchange::StepHeader prompt = Rows({{1, 0, 12, ReturnRows::kLast}});
  ASSERT_OK(kv.Admit(1, prompt));
  kv.Commit(1, prompt);
  const model::BlockTable before = kv.Table(1, 1);
  const exchange::StepHeader again = Rows({{1, 3, 2, ReturnRows::kLast}});
  ASSERT_OK(kv.Admit(1, again));
  kv.Commit(1, again);
  EXPECT_EQ(kv.used_tokens(), 8);
  EXPECT_EQ(kv.Table(1, 1).front(), before.front());
  EXPECT_THAT(kv.Admit(1, Rows({{1, 6, 1, ReturnRows::kLast}})),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST(ExpertKvTest, TakesAllSequencesOfASwapOrNone) {
  ExpertKv kv(4, 4);
  EXPECT_THAT(kv.Admit(1, Rows({{1, 0, 8, ReturnRows::kLast}, {2, 0, 9, ReturnRows::kLast}})),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("needs 5 more of 4 tokens, 4 of 4 are free")));
  EXPECT_EQ(kv.used_tokens(), 0);
  EXPECT_THAT(kv.Admit(1, Rows({{1, 0, 8, ReturnRows::kLast}, {2, 1, 1, ReturnRows::kLast}})),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(kv.used_tokens(), 0);
  EXPECT_OK(kv.Admit(1, Rows({{1, 0, 8, ReturnRows::kLast}, {2, 0, 8, ReturnRows::kLast}})));
}

TEST(ExpertKvTest, ASequenceThatCanNeverFitIsAnotherError) {
  ExpertKv kv(4, 4);
  EXPECT_THAT(kv.Admit(1, Rows({{1, 0, 17, ReturnRows::kLast}})),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("grows to 17 tokens; the expert's whole KV "
                                 "cache holds 16")));
}

TEST(ExpertKvTest, AbandonGivesTheRoomBackAndKeepsWhatWasThere) {
  ExpertKv kv(8, 4);
  const exchange::StepHeader prompt = Rows({{1, 0, 4, ReturnRows::kLast}});
  ASSERT_OK(kv.Admit(1, prompt));
  kv.Commit(1, prompt);
  const exchange::StepHeader next =
      Rows({{1, 4, 10, ReturnRows::kLast}, {2, 0, 3, ReturnRows::kLast}});
  ASSERT_OK(kv.Admit(1, next));
  kv.Abandon(1, next);
  EXPECT_EQ(kv.used_tokens(), 4);
  EXPECT_OK(kv.Admit(1, Rows({{1, 4, 1, ReturnRows::kLast}})));
}

TEST(ExpertKvTest, PeersAndSequencesAreApart) {
  ExpertKv kv(8, 4);
  for (const uint64_t peer : {1, 2}) {
    for (const uint64_t sequence : {5, 6}) {
      const exchange::StepHeader rows = Rows({{sequence, 0, 4, ReturnRows::kLast}});
      ASSERT_OK(kv.Admit(peer, rows));
      kv.Commit(peer, rows);
    }
  }
  EXPECT_EQ(kv.used_tokens(), 16);
  kv.Release(1, 5);
  kv.Release(1, 5);
  kv.Release(3, 5);
  EXPECT_EQ(kv.used_tokens(), 12);
  kv.ReleasePeer(2);
  EXPECT_EQ(kv.used_tokens(), 4);
  EXPECT_OK(kv.Admit(1, Rows({{6, 4, 1, ReturnRows::kLast}})));
}

}  // namespace
}  // namespace ccoe::experts
