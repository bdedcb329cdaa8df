// SPDX-License-Identifier: Apache-2.0

#include "runtime/engine/output_processor.h"

#include <algorithm>
#include <cmath>
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
using ::testing::AllOf;
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

TEST(SamplerTest, TheOpIsGivenWhatTheQueryAsksFor) {
  SamplingParams params;
  params.temperature = 0.7f;
  params.top_k = 40;
  params.top_p = 0.9f;
  params.min_p = 0.05f;
  params.repetition_penalty = 1.3f;
  params.presence_penalty = 0.5f;
  params.frequency_penalty = 0.25f;
  params.logprobs = 3;
  TokenCounts counts;
  counts.AddPrompt(std::vector<int32_t>{4, 5, 4});
  counts.AddAnswer(5);
  counts.AddAnswer(6);
  counts.AddAnswer(6);
  const std::vector<int32_t> held_back = {7, 8};
  const kernels::SampleRow row = SampleRowFor({&params, &counts, held_back, 17, 3});
  EXPECT_EQ(row.temperature, 0.7f);
  EXPECT_EQ(row.top_k, 40);
  EXPECT_EQ(row.top_p, 0.9f);
  EXPECT_EQ(row.min_p, 0.05f);
  EXPECT_EQ(row.repetition_penalty, 1.3f);
  EXPECT_EQ(row.presence_penalty, 0.5f);
  EXPECT_EQ(row.frequency_penalty, 0.25f);
  EXPECT_EQ(row.logprobs, 3);
  EXPECT_EQ(row.uniform, UniformAt(17, 3));
  EXPECT_THAT(row.held_back, ElementsAre(7, 8));
  std::vector<int32_t> seen;
  for (const kernels::TokenCount& count : row.counts) {
    seen.insert(seen.end(), {count.id, count.answer_count});
  }
  EXPECT_THAT(seen, ElementsAre(4, 0, 5, 1, 6, 2));
}

TEST(SamplerTest, WithoutAPenaltyNothingIsCounted) {
  SamplingParams params;
  TokenCounts counts;
  counts.AddAnswer(5);
  EXPECT_FALSE(NeedsCounts(params));
  EXPECT_THAT(SampleRowFor({&params, &counts, {}, 0, 0}).counts, IsEmpty());
  params.presence_penalty = -1.0f;
  EXPECT_TRUE(NeedsCounts(params));
  EXPECT_THAT(SampleRowFor({&params, &counts, {}, 0, 0}).counts, SizeIs(1));
}

TEST(SamplerTest, TheUniformDependsOnSeedAndPositionAlone) {
  EXPECT_EQ(UniformAt(5, 10), UniformAt(5, 10));
  EXPECT_NE(UniformAt(5, 10), UniformAt(5, 11));
  EXPECT_NE(UniformAt(5, 10), UniformAt(6, 10));
}

TEST(SamplerTest, UniformsAreUniform) {
  double sum = 0;
  std::vector<int> cells(10, 0);
  for (int i = 0; i < 20000; ++i) {
    const double u = UniformAt(i % 7, i);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
    ++cells[static_cast<int>(u * 10)];
  }
  EXPECT_NEAR(sum / 20000, 0.5, 0.01);
  for (int count : cells) EXPECT_NEAR(count, 2000, 220);
}

TEST(SamplerTest, LogprobsComeWithTheTokenWhereAsked) {
  SamplingParams params;
  kernels::SampledRow sampled;
  sampled.token_id = 4;
  sampled.logprob = -0.5f;
  sampled.best = {{4, -0.5f}, {2, -1.0f}};
  params.logprobs = 2;
  ASSERT_OK_AND_ASSIGN(GeneratedToken token, TokenOf({&params, nullptr, {}, 0, 0}, sampled));
  EXPECT_EQ(token.token_id, 4);
  EXPECT_EQ(token.logprob, -0.5f);
  ASSERT_THAT(token.best, SizeIs(2));
  EXPECT_EQ(token.best[1].token_id, 2);
  EXPECT_EQ(token.best[1].logprob, -1.0f);
  params.logprobs = -1;
  sampled.best.clear();
  ASSERT_OK_AND_ASSIGN(token, TokenOf({&params, nullptr, {}, 0, 0}, sampled));
  EXPECT_FALSE(token.logprob.has_value());
}

TEST(SamplerTest, NanAndInfinityAreAnErrorNamingTheId) {
  SamplingParams params;
  kernels::SampledRow sampled;
  sampled.nonfinite_id = 93;
  EXPECT_THAT(TokenOf({&params, nullptr, {}, 0, 12}, sampled),
              StatusIs(absl::StatusCode::kInternal,
                       AllOf(HasSubstr("position 12"), HasSubstr("token id 93"))));
}

TEST(SamplerTest, HoldingBackEverythingIsAnError) {
  SamplingParams params;
  EXPECT_THAT(TokenOf({&params, nullptr, {}, 0, 12}, kernels::SampledRow()),
              StatusIs(absl::StatusCode::kInternal,
                       AllOf(HasSubstr("position 12"), HasSubstr("held back"))));
}

}  // namespace
}  // namespace ccoe::engine
