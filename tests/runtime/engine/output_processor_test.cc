// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/output_processor.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "tests/testing/engine_cluster.h"
#include "tests/testing/recording_sink.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_sequence.h"

namespace ccoe::engine {
namespace {

using ::ccoe::testing::AnswerRecorder;
using ::ccoe::testing::GoldenBackbone;
using ::ccoe::testing::kTestTime;
using ::ccoe::testing::StatusIs;
using ::ccoe::testing::TestInit;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int64_t kHidden = 64, kVocab = 512;

// Rows of made-up hidden states; the expected logits come straight from the head.
class OutputProcessorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(BackboneModel model, GoldenBackbone("ccoe/backbone"));
    ASSERT_OK_AND_ASSIGN(runner_,
                         ModelRunner::Create(std::move(model), kernels::MakeCpuOps(&team_), 4, 4));
    output_ = std::make_unique<OutputProcessor>(runner_.get(), &table_, nullptr, nullptr);
  }

  StepEntry Entry(SequenceInit init) {
    StepEntry entry;
    entry.sequence = std::make_shared<Sequence>(std::move(init));
    table_.Enqueue(entry.sequence);
    table_.Admit(entry.sequence->handle(), kTestTime);
    table_.BeginStep(*entry.sequence, 1);
    entry.row_count = entry.sequence->known_tokens();
    return entry;
  }
  SequenceInit Greedy(uint64_t handle, AnswerRecorder& recorder, int64_t max_tokens = 10) {
    SequenceInit init = TestInit(handle, 3, recorder, max_tokens);
    init.query.sampling.temperature = 0.0f;
    return init;
  }
  // Loads rows 0 .. count - 1 and returns their logits.
  std::vector<float> LoadRows(int count) {
    std::vector<float> rows(count * kHidden);
    for (size_t i = 0; i < rows.size(); ++i)
      rows[i] = static_cast<float>((i * 37 % 101) - 50.0) / 50.0f;
    EXPECT_OK(runner_->Load(rows));
    std::vector<int32_t> numbers;
    for (int i = 0; i < count; ++i) numbers.push_back(i);
    std::vector<float> logits;
    EXPECT_OK(runner_->Logits(*runner_->model().head, numbers));
    EXPECT_OK(runner_->ReadLogits(0, count, logits));
    return logits;
  }
  static int32_t ArgMax(const std::vector<float>& logits, int row) {
    const auto begin = logits.begin() + row * kVocab;
    return static_cast<int32_t>(std::max_element(begin, begin + kVocab) - begin);
  }
  void Deliver(std::vector<StepEntry>& entries, std::vector<HeldRows> held) {
    output_->Deliver(absl::MakeSpan(entries), held, *runner_->model().head);
  }

  ThreadTeam team_{1};
  std::unique_ptr<ModelRunner> runner_;
  SequenceTable table_{64, 4, nullptr};
  std::unique_ptr<OutputProcessor> output_;
  AnswerRecorder first_, second_;
};

TEST_F(OutputProcessorTest, TheLastRowOfEachSequenceGivesItsToken) {
  std::vector<StepEntry> entries = {Entry(Greedy(1, first_)), Entry(Greedy(2, second_))};
  const std::vector<float> logits = LoadRows(4);
  Deliver(entries, {{0, 3}, {3, 1}});  // all rows of the first, the last of the second
  EXPECT_THAT(first_.Now().ids(), ElementsAre(ArgMax(logits, 2)));
  EXPECT_THAT(second_.Now().ids(), ElementsAre(ArgMax(logits, 3)));
  EXPECT_EQ(entries[0].sequence->computed_tokens(), 3);
  EXPECT_EQ(entries[0].sequence->known_tokens(), 4);
  EXPECT_EQ(entries[0].sequence->state(), SequenceState::kRunnable);
  EXPECT_EQ(output_->prompt_tokens(), 6);
  EXPECT_EQ(output_->generated_tokens(), 2);
}

TEST_F(OutputProcessorTest, AChunkInTheMiddleGivesNothing) {
  std::vector<StepEntry> entries = {Entry(Greedy(1, first_))};
  entries[0].row_count = 2;
  LoadRows(2);
  Deliver(entries, {{0, 2}});
  EXPECT_THAT(first_.Now().tokens, IsEmpty());
  EXPECT_EQ(entries[0].sequence->computed_tokens(), 2);
}

TEST_F(OutputProcessorTest, PromptLogitsGoOutInOrderBesideTheToken) {
  SequenceInit init = Greedy(1, first_);
  init.query.prompt_logits = true;
  std::vector<StepEntry> entries = {Entry(std::move(init))};
  const std::vector<float> logits = LoadRows(3);
  Deliver(entries, {{0, 3}});
  EXPECT_EQ(first_.Now().logits, logits);
  EXPECT_THAT(first_.Now().tokens, SizeIs(1));
}

TEST_F(OutputProcessorTest, MoreRowsThanTheHeadTakesAtOnceStayInOrder) {
  SequenceInit init = TestInit(1, 150, first_, 0);
  init.query.prompt_logits = true;
  std::vector<StepEntry> entries = {Entry(std::move(init))};
  const std::vector<float> logits = LoadRows(150);
  Deliver(entries, {{0, 150}});
  const auto answer = first_.Now();
  EXPECT_EQ(answer.logits, logits);
  EXPECT_GT(answer.logits_positions.size(), 1u);
  EXPECT_EQ(answer.finishes, 1);
  EXPECT_EQ(answer.reason, FinishReason::kLength);
  EXPECT_THAT(answer.tokens, IsEmpty());
}

TEST_F(OutputProcessorTest, AStopIdEndsTheAnswerAndIsNotPassedOn) {
  const std::vector<float> logits = LoadRows(3);
  SequenceInit init = Greedy(1, first_);
  init.stop_ids = {ArgMax(logits, 2)};
  std::vector<StepEntry> entries = {Entry(std::move(init))};
  Deliver(entries, {{0, 3}});
  EXPECT_THAT(first_.Now().tokens, IsEmpty());
  EXPECT_EQ(first_.Now().reason, FinishReason::kStop);
  EXPECT_EQ(first_.Now().usage.generated_tokens, 0);
}

TEST_F(OutputProcessorTest, MinTokensHoldTheStopIdBack) {
  const std::vector<float> logits = LoadRows(3);
  SequenceInit init = Greedy(1, first_);
  init.stop_ids = {ArgMax(logits, 2)};
  init.query.sampling.min_tokens = 1;
  std::vector<StepEntry> entries = {Entry(std::move(init))};
  Deliver(entries, {{0, 3}});
  ASSERT_THAT(first_.Now().tokens, SizeIs(1));
  EXPECT_NE(first_.Now().ids()[0], ArgMax(logits, 2));
  EXPECT_EQ(first_.Now().finishes, 0);
}

TEST_F(OutputProcessorTest, TheLastTokenFinishesTheAnswer) {
  std::vector<StepEntry> entries = {Entry(Greedy(1, first_, 1))};
  LoadRows(3);
  Deliver(entries, {{0, 3}});
  EXPECT_EQ(first_.Now().reason, FinishReason::kLength);
  EXPECT_THAT(first_.Now().status, ccoe::testing::IsOk());
  EXPECT_EQ(table_.Find(1), nullptr);
}

TEST_F(OutputProcessorTest, NanInOneSequencesRowEndsThatQueryAlone) {
  std::vector<StepEntry> entries = {Entry(Greedy(1, first_)), Entry(Greedy(2, second_))};
  std::vector<float> rows(2 * kHidden, 0.25f);
  rows[5] = std::numeric_limits<float>::quiet_NaN();
  ASSERT_OK(runner_->Load(rows));
  Deliver(entries, {{0, 1}, {1, 1}});
  EXPECT_THAT(first_.Now().status, StatusIs(absl::StatusCode::kInternal, HasSubstr("query q1")));
  EXPECT_EQ(first_.Now().reason, FinishReason::kError);
  EXPECT_THAT(second_.Now().tokens, SizeIs(1));
}

TEST_F(OutputProcessorTest, QueriesThatEndedMeanwhileArePassedOver) {
  std::vector<StepEntry> entries = {Entry(Greedy(1, first_)), Entry(Greedy(2, second_))};
  const std::vector<float> logits = LoadRows(2);
  table_.Finish(entries[0].sequence, FinishReason::kCancelled, absl::CancelledError("x"),
                kTestTime);
  Deliver(entries, {{0, 1}, {1, 1}});
  EXPECT_THAT(first_.Now().tokens, IsEmpty());
  EXPECT_EQ(first_.Now().finishes, 1);
  EXPECT_THAT(second_.Now().ids(), ElementsAre(ArgMax(logits, 1)));
}

}  // namespace
}  // namespace ccoe::engine
