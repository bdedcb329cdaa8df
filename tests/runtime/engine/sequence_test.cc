// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/sequence.h"

#include <numeric>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/recording_sink.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_sequence.h"

namespace ccoe::engine {
namespace {

using ::ccoe::testing::AnswerRecorder;
using ::ccoe::testing::kTestTime;
using ::ccoe::testing::RecordedAnswer;
using ::ccoe::testing::TestInit;
using ::testing::ElementsAre;
using ::testing::Pair;

GeneratedToken Token(int32_t id) {
  GeneratedToken token;
  token.token_id = id;
  return token;
}

TEST(SequenceTest, GoesThroughPrefillAndDecodeToItsLimit) {
  AnswerRecorder recorder;
  Sequence sequence(TestInit(1, 5, recorder, 2));
  EXPECT_EQ(sequence.state(), SequenceState::kWaiting);
  sequence.Admit(7, kTestTime + absl::Seconds(1));
  EXPECT_EQ(sequence.link_id(), 7u);
  sequence.BeginStep(1);
  EXPECT_EQ(sequence.state(), SequenceState::kInStep);
  sequence.EndStep(5);
  EXPECT_EQ(sequence.computed_tokens(), 5);
  EXPECT_FALSE(sequence.Emit(Token(42), kTestTime + absl::Seconds(3)));
  EXPECT_EQ(sequence.known_tokens(), 6);
  sequence.BeginStep(2);
  sequence.EndStep(1);
  EXPECT_TRUE(sequence.Emit(Token(43), kTestTime + absl::Seconds(7)));
  sequence.Finish(FinishReason::kLength, absl::OkStatus(), kTestTime + absl::Seconds(7));

  const RecordedAnswer answer = recorder.Now();
  EXPECT_THAT(answer.ids(), ElementsAre(42, 43));
  EXPECT_EQ(answer.finishes, 1);
  EXPECT_EQ(answer.usage.prompt_tokens, 5);
  EXPECT_EQ(answer.usage.generated_tokens, 2);
  EXPECT_EQ(answer.usage.queue_time, absl::Seconds(1));
  EXPECT_EQ(answer.usage.prefill_time, absl::Seconds(2));
  EXPECT_EQ(answer.usage.decode_time, absl::Seconds(4));
}

TEST(SequenceTest, PreemptionKeepsTheTokensAndGivesUpTheRest) {
  AnswerRecorder recorder;
  Sequence sequence(TestInit(1, 3, recorder));
  sequence.Admit(1, kTestTime);
  sequence.BeginStep(1);
  sequence.EndStep(3);
  sequence.Emit(Token(9), kTestTime);
  sequence.Preempt();
  EXPECT_EQ(sequence.state(), SequenceState::kWaiting);
  EXPECT_EQ(sequence.computed_tokens(), 0);
  EXPECT_THAT(sequence.Tokens(0, 4), ElementsAre(0, 1, 2, 9));
  sequence.Admit(2, kTestTime + absl::Hours(1));
  EXPECT_EQ(sequence.link_id(), 2u);
  EXPECT_EQ(sequence.UsageAt(kTestTime + absl::Hours(2)).preemptions, 1);
  EXPECT_EQ(sequence.UsageAt(kTestTime + absl::Hours(2)).queue_time, absl::ZeroDuration());
}

TEST(SequenceTest, AnAbortedStepLeavesTheRowsToBeRunAgain) {
  AnswerRecorder recorder;
  Sequence sequence(TestInit(1, 3, recorder));
  sequence.Admit(1, kTestTime);
  sequence.BeginStep(1);
  sequence.AbortStep();
  EXPECT_EQ(sequence.state(), SequenceState::kRunnable);
  EXPECT_EQ(sequence.computed_tokens(), 0);
}

TEST(SequenceTest, CountsTokensOnlyWhereAPenaltyNeedsThem) {
  AnswerRecorder recorder;
  SequenceInit init = TestInit(1, 3, recorder);
  init.query.sampling.frequency_penalty = 0.5f;
  Sequence counting(std::move(init));
  counting.Emit(Token(2), kTestTime);
  counting.Emit(Token(2), kTestTime);
  std::vector<std::pair<int32_t, int32_t>> entries;
  for (const kernels::TokenCount& entry : counting.counts().entries()) {
    entries.emplace_back(entry.id, entry.answer_count);
  }
  EXPECT_THAT(entries, ElementsAre(Pair(0, 0), Pair(1, 0), Pair(2, 2)));
  Sequence plain(TestInit(2, 3, recorder));
  plain.Emit(Token(2), kTestTime);
  EXPECT_TRUE(plain.counts().entries().empty());
}

TEST(SequenceTest, HoldsBackStopsUntilMinTokens) {
  AnswerRecorder recorder;
  SequenceInit init = TestInit(1, 3, recorder);
  init.query.sampling.min_tokens = 1;
  init.stop_ids = {5};
  Sequence sequence(std::move(init));
  EXPECT_TRUE(sequence.IsStop(5));
  EXPECT_FALSE(sequence.IsStop(6));
  EXPECT_TRUE(sequence.HoldsBackStops());
  sequence.Emit(Token(2), kTestTime);
  EXPECT_FALSE(sequence.HoldsBackStops());
}

TEST(SequenceTest, LogitsGoOutOnceAlsoAfterARecomputation) {
  AnswerRecorder recorder;
  SequenceInit init = TestInit(1, 4, recorder);
  init.query.prompt_logits = true;
  Sequence sequence(std::move(init));
  EXPECT_TRUE(sequence.WantsLogits(0));
  const std::vector<float> rows = {1, 2, 3, 4};  // two rows, vocabulary of two
  sequence.EmitLogits(0, 2, rows);
  EXPECT_FALSE(sequence.WantsLogits(1));
  EXPECT_TRUE(sequence.WantsLogits(2));
  EXPECT_FALSE(sequence.WantsLogits(4));  // not a prompt position
  EXPECT_THAT(recorder.Now().logits, ElementsAre(1, 2, 3, 4));
}

TEST(SequenceTest, HiddenStatesAreCutToThePromptRowsTheSinkHasNotHad) {
  AnswerRecorder recorder;
  SequenceInit init = TestInit(1, 3, recorder);
  init.query.prompt_hidden = true;
  Sequence sequence(std::move(init));
  sequence.EmitHidden(0, 2, 2, std::vector<float>{10, 11, 20, 21});
  EXPECT_FALSE(sequence.WantsHidden(0, 2));
  EXPECT_TRUE(sequence.WantsHidden(0, 4));
  // Recomputed from 0 in a chunk that reaches beyond the prompt: of rows 0..3 only row 2 is new and
  // of the prompt.
  sequence.EmitHidden(0, 4, 2, std::vector<float>{10, 11, 12, 13, 20, 21, 22, 23});
  EXPECT_FALSE(sequence.WantsHidden(3, 1));
  const RecordedAnswer answer = recorder.Now();
  ASSERT_EQ(answer.hidden.size(), 2u);
  EXPECT_THAT(answer.hidden[0], ElementsAre(10, 11, 12));
  EXPECT_THAT(answer.hidden[1], ElementsAre(20, 21, 22));
  EXPECT_TRUE(answer.hidden_in_order);
}

TEST(SequenceDeathTest, AForbiddenChangeOfStateIsABug) {
  AnswerRecorder recorder;
  Sequence sequence(TestInit(1, 3, recorder));
  EXPECT_DEATH(sequence.BeginStep(1), "broken invariant");
}

}  // namespace
}  // namespace ccoe::engine
