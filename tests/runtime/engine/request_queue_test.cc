// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/request_queue.h"

#include <memory>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/fake_link.h"
#include "tests/testing/recording_sink.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_sequence.h"

namespace ccoe::engine {
namespace {

using ::ccoe::testing::AnswerRecorder;
using ::ccoe::testing::FakeLink;
using ::ccoe::testing::IsOk;
using ::ccoe::testing::kTestTime;
using ::ccoe::testing::StatusIs;
using ::ccoe::testing::TestInit;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

AdmissionLimits Limits() {
  AdmissionLimits limits;
  limits.vocab_size = 100;
  limits.context_tokens = 64;
  limits.kv_tokens = 1000;
  limits.layer_count = 8;
  limits.held_layers = {0, 8};
  return limits;
}

EngineRequest Query(int64_t tokens, int64_t max_tokens = 10) {
  EngineRequest query;
  query.prompt.assign(tokens, 7);
  query.sampling.max_tokens = max_tokens;
  return query;
}

TEST(AdmissionTest, MaxTokensAreCutToTheContext) {
  ASSERT_OK_AND_ASSIGN(int64_t max_tokens, TokensToGenerate(Query(50), nullptr, Limits()));
  EXPECT_EQ(max_tokens, 10);
  ASSERT_OK_AND_ASSIGN(max_tokens, TokensToGenerate(Query(50, 1000), nullptr, Limits()));
  EXPECT_EQ(max_tokens, 14);
  ASSERT_OK_AND_ASSIGN(max_tokens, TokensToGenerate(Query(63, 1000), nullptr, Limits()));
  EXPECT_EQ(max_tokens, 1);
}

TEST(AdmissionTest, MaxTokensAreCutToTheKvCapacity) {
  AdmissionLimits limits = Limits();
  limits.kv_tokens = 20;
  ASSERT_OK_AND_ASSIGN(const int64_t max_tokens,
                       TokensToGenerate(Query(18, 1000), nullptr, limits));
  EXPECT_EQ(max_tokens, 3);  // the last token needs no KV
}

TEST(AdmissionTest, AnExpertsOwnKvCacheBoundsItsQueriesAlone) {
  ExpertBinding binding;
  binding.expert = {"math", 1};
  binding.worker_id = "expert-3";
  binding.kv_tokens = 20;
  ASSERT_OK_AND_ASSIGN(const int64_t max_tokens,
                       TokensToGenerate(Query(18, 1000), &binding, Limits()));
  EXPECT_EQ(max_tokens, 3);
  EXPECT_THAT(TokensToGenerate(Query(21), &binding, Limits()),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("21 tokens"), HasSubstr("20 tokens"), HasSubstr("math@1"),
                             HasSubstr("expert-3"))));
  EXPECT_THAT(TokensToGenerate(Query(21), nullptr, Limits()), IsOk());
  binding.kv_tokens = 0;  // not known
  EXPECT_THAT(TokensToGenerate(Query(21), &binding, Limits()), IsOk());
}

TEST(AdmissionTest, PromptsThatDoNotFitAreRefusedWithLimitAndFound) {
  EXPECT_THAT(CheckQuery(Query(0), Limits()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found none")));
  EXPECT_THAT(CheckQuery(Query(64), Limits()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("at most 63"), HasSubstr("found 64"))));
  AdmissionLimits limits = Limits();
  limits.kv_tokens = 20;
  EXPECT_THAT(CheckQuery(Query(21), limits),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("20 tokens")));
}

TEST(AdmissionTest, IdsOutsideTheVocabularyAreRefused) {
  EngineRequest query = Query(3);
  query.prompt[1] = 100;
  EXPECT_THAT(CheckQuery(query, Limits()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("token 1"), HasSubstr("found 100"))));
  query.prompt[1] = -1;
  EXPECT_THAT(CheckQuery(query, Limits()), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(AdmissionTest, SamplingIsChecked) {
  EngineRequest query = Query(3);
  query.sampling.top_p = 2.0f;
  EXPECT_THAT(CheckQuery(query, Limits()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("top_p")));
}

TEST(AdmissionTest, ScoringAloneMayGenerateNothingAndFillTheContext) {
  EngineRequest query = Query(64, 0);
  EXPECT_THAT(CheckQuery(query, Limits()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("max_tokens")));
  query.prompt_logits = true;
  ASSERT_OK_AND_ASSIGN(const int64_t max_tokens, TokensToGenerate(query, nullptr, Limits()));
  EXPECT_EQ(max_tokens, 0);
}

TEST(AdmissionTest, LayersTheBackboneLacksAreNamed) {
  AdmissionLimits limits = Limits();
  EXPECT_THAT(CheckLayers(nullptr, limits), IsOk());
  limits.held_layers = {0, 6};
  EXPECT_THAT(CheckLayers(nullptr, limits),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("without expert"), HasSubstr("[0, 6) of 8"))));
  ExpertBinding binding;
  binding.link = std::make_shared<FakeLink>();
  binding.layers = {6, 8};
  EXPECT_THAT(CheckLayers(&binding, limits), IsOk());
  binding.layers = {4, 8};
  EXPECT_THAT(CheckLayers(&binding, limits), IsOk());
  binding.layers = {7, 8};
  EXPECT_THAT(CheckLayers(&binding, limits),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("[0, 7)")));
  binding.layers = {2, 5};
  EXPECT_THAT(CheckLayers(&binding, limits),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("[5, 8)")));
}

TEST(AdmissionTest, ABindingThatMakesNoSenseIsOurOwnFault) {
  ExpertBinding binding;
  binding.layers = {4, 9};
  binding.link = std::make_shared<FakeLink>();
  EXPECT_THAT(CheckLayers(&binding, Limits()), StatusIs(absl::StatusCode::kInternal));
  binding.layers = {4, 8};
  binding.link = nullptr;  // no worker has it now
  EXPECT_OK(CheckLayers(&binding, Limits()));
}

TEST(AdmissionTest, ControlOfGatesIsChecked) {
  auto spec = std::make_shared<model::ModelSpec>();
  spec->layers.resize(8);
  spec->layers[5].ffn.kind = model::FfnKind::kMoe;
  spec->layers[5].ffn.moe.experts = 4;
  spec->layers[5].ffn.moe.gate.top_k = 2;
  AdmissionLimits limits = Limits();
  limits.spec = spec;
  auto control = std::make_shared<MoeControl>();
  control->layers[5].masked = {1};
  EngineRequest query = Query(3);
  query.moe = control;
  EXPECT_THAT(CheckQuery(query, limits), StatusIs(absl::StatusCode::kPermissionDenied));
  limits.moe_policy.allow_masks = true;
  EXPECT_THAT(CheckQuery(query, limits), IsOk());
  control->layers[5].masked = {4};
  EXPECT_THAT(CheckQuery(query, limits),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("layer 5")));
  limits.spec = nullptr;
  EXPECT_THAT(CheckQuery(query, limits),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("one without")));
}

TEST(AdmissionTest, GatesOfLayersThatAnExpertReplacesAreNotTheModels) {
  ExpertBinding binding;
  binding.expert = {"math", 2};
  binding.layers = {4, 6};
  MoeControl control;
  control.all_layers.active_experts = 1;
  control.layers[3].active_experts = 1;
  control.layers[6].active_experts = 1;
  EXPECT_THAT(CheckMoeLayers(&control, &binding), IsOk());
  control.layers[5].active_experts = 1;
  EXPECT_THAT(CheckMoeLayers(&control, &binding),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("layer 5"), HasSubstr("math@2"), HasSubstr("[4, 6)"))));
  EXPECT_THAT(CheckMoeLayers(&control, nullptr), IsOk());
  EXPECT_THAT(CheckMoeLayers(nullptr, &binding), IsOk());
}

TEST(AdmissionTest, StopIdsAreTheQuerysAndTheModels) {
  SamplingParams sampling;
  sampling.stop_token_ids = {9, 2};
  EXPECT_THAT(StopIds(sampling, {2, 3}), ElementsAre(2, 3, 9));
  sampling.ignore_eos = true;
  EXPECT_THAT(StopIds(sampling, {2, 3}), ElementsAre(2, 9));
}

class RequestQueueTest : public ::testing::Test {
 protected:
  absl::StatusOr<uint64_t> Submit() { return queue_.Submit(TestInit(0, 3, recorder_)); }
  RequestQueue::Events TakeNow() { return queue_.Take(absl::ZeroDuration()); }
  void Finish(std::vector<uint64_t> handles, absl::Time now = kTestTime) {
    RequestQueue::Report report;
    report.finished = std::move(handles);
    queue_.Publish(report, now);
  }

  AnswerRecorder recorder_;
  RequestQueue queue_{4, 99};
};

TEST_F(RequestQueueTest, HandlesRiseInOrderOfSubmission) {
  ASSERT_OK_AND_ASSIGN(const uint64_t first, Submit());
  ASSERT_OK_AND_ASSIGN(const uint64_t second, Submit());
  EXPECT_LT(first, second);
  const RequestQueue::Events events = TakeNow();
  ASSERT_EQ(events.submissions.size(), 2u);
  EXPECT_EQ(events.submissions[0].handle, first);
  EXPECT_NE(events.submissions[0].seed, events.submissions[1].seed);
  EXPECT_THAT(TakeNow().submissions, IsEmpty());
}

TEST_F(RequestQueueTest, AGivenSeedIsKept) {
  SequenceInit init = TestInit(0, 3, recorder_);
  init.query.sampling.seed = 5;
  EXPECT_OK(queue_.Submit(std::move(init)));
  EXPECT_EQ(TakeNow().submissions[0].seed, 5u);
}

TEST_F(RequestQueueTest, AFullQueueSaysWhenToRetry) {
  for (int i = 0; i < 4; ++i) EXPECT_OK(Submit());
  EXPECT_THAT(Submit(),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("4 queries wait"), HasSubstr("retry in about 1000 ms"))));
  TakeNow();
  EXPECT_THAT(Submit(),
              StatusIs(absl::StatusCode::kResourceExhausted));  // taken, but still waiting
  RequestQueue::Report report;
  report.fresh_waiting = 3;
  queue_.Publish(report, kTestTime);
  EXPECT_OK(Submit());
}

TEST_F(RequestQueueTest, TheRetryHintFollowsTheThroughput) {
  Finish({100}, kTestTime);
  Finish({101, 102}, kTestTime + absl::Seconds(6));
  for (int i = 0; i < 4; ++i) EXPECT_OK(Submit());
  EXPECT_THAT(Submit(),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("retry in about 3000 ms")));
}

TEST_F(RequestQueueTest, CancelsOfLivingHandlesAloneArePassedOnAndOnce) {
  ASSERT_OK_AND_ASSIGN(const uint64_t handle, Submit());
  queue_.Cancel(handle);
  queue_.Cancel(handle);
  queue_.Cancel(handle + 1);
  EXPECT_THAT(TakeNow().cancels, ElementsAre(handle));
  Finish({handle});
  queue_.Cancel(handle);
  EXPECT_THAT(TakeNow().cancels, IsEmpty());
}

TEST_F(RequestQueueTest, TakeWaitsForWhatComesIn) {
  std::thread sender([this] { queue_.Answer({7, absl::UnavailableError("gone")}); });
  const RequestQueue::Events events = queue_.Take(absl::InfiniteDuration());
  sender.join();
  ASSERT_EQ(events.answers.size(), 1u);
  EXPECT_EQ(events.answers[0].swap_id, 7u);
}

TEST_F(RequestQueueTest, StopStaysAndRefusesWhatComesLater) {
  queue_.Stop();
  EXPECT_TRUE(TakeNow().stop);
  EXPECT_TRUE(queue_.Take(absl::InfiniteDuration()).stop);
  EXPECT_THAT(Submit(), StatusIs(absl::StatusCode::kUnavailable));
  queue_.Answer({1, absl::UnavailableError("late")});
  EXPECT_THAT(TakeNow().answers, IsEmpty());
}

TEST_F(RequestQueueTest, DrainRefusesNewQueriesAndWaitsForTheOthers) {
  ASSERT_OK_AND_ASSIGN(const uint64_t handle, Submit());
  EXPECT_FALSE(queue_.Drain(absl::Now()));
  EXPECT_THAT(Submit(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("draining")));
  std::thread finisher([this, handle] { Finish({handle}); });
  EXPECT_TRUE(queue_.Drain(absl::InfiniteFuture()));
  finisher.join();
}

TEST_F(RequestQueueTest, LoadCountsWhatWasNotTakenYet) {
  EXPECT_OK(Submit());
  EXPECT_EQ(queue_.Load().waiting, 1);
  TakeNow();
  RequestQueue::Report report;
  report.load.waiting = 1;
  report.load.running = 5;
  queue_.Publish(report, kTestTime);
  EXPECT_OK(Submit());
  EXPECT_EQ(queue_.Load().waiting, 2);
  EXPECT_EQ(queue_.Load().running, 5);
}

}  // namespace
}  // namespace ccoe::engine
