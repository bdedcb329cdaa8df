// SPDX-License-Identifier: Apache-2.0
// The engine end to end: the golden backbone and its experts, held to the reference and to itself.
#include "runtime/engine/engine.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "runtime/model/families/hf_config.h"
#include "tests/testing/engine_cluster.h"
#include "tests/testing/eventually.h"
#include "tests/testing/golden_engine.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/model_run.h"
#include "tests/testing/recording_sink.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::engine {
namespace {

using ::ccoe::testing::AnswerRecorder;
using ::ccoe::testing::EngineClusterOptions;
using ::ccoe::testing::GoldenFolder;
using ::ccoe::testing::GoldenModel;
using ::ccoe::testing::GoldenPrompt;
using ::ccoe::testing::GreedyQuery;
using ::ccoe::testing::ModelRun;
using ::ccoe::testing::RecordedAnswer;
using ::ccoe::testing::SmallOptions;
using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr float kTolerance = 1e-3f;
const std::vector<std::string> kExperts = testing::GoldenExperts();

float MaxDifference(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  float difference = 0.0f;
  for (size_t i = 0; i < a.size() && i < b.size(); ++i)
    difference = std::max(difference, std::abs(a[i] - b[i]));
  return difference;
}

class EngineTest : public testing::GoldenEngineTest {};

TEST_F(EngineTest, AllExpertsAndTheBaseAtOnceContinueAsTheReference) {
  StartWithExperts();
  ExpectGoldenContinuations();
  const EngineLoad load = cluster_->engine().Load();
  EXPECT_EQ(load.preemptions, 0);
  EXPECT_EQ(load.kv_tokens_total, 4096);
}

TEST_F(EngineTest, ManyWorkersAndOneStepInFlightGiveTheSame) {
  EngineClusterOptions options = SmallOptions();
  options.expert_workers = 5;
  options.engine.max_steps_in_flight = 1;
  StartWithExperts(options);
  ExpectGoldenContinuations();
}

TEST_F(EngineTest, ADeviceWithMemoryOfItsOwnGivesTheSame) {
  testing::TaggedDevice device;
  EngineClusterOptions options = SmallOptions();
  options.device = &device;
  options.expert_workers = 2;
  ASSERT_NO_FATAL_FAILURE(StartWithExperts(options));
  ExpectGoldenContinuations();
  EngineRequest query = GreedyQuery(Prompt("math", goldens_->at("math").prompts[0].id).ids, "math");
  query.prompt_logits = query.prompt_hidden = true;
  EXPECT_OK(Ask(std::move(query)).status);
  cluster_.reset();
}

TEST_F(EngineTest, LogitsOfTheAnswerStayOnTheDevice) {
  testing::TaggedDevice device;
  EngineClusterOptions options = SmallOptions();
  options.device = &device;
  ASSERT_NO_FATAL_FAILURE(StartWithExperts(options));
  EngineRequest query = GreedyQuery(Prompt("", "sql").ids, "", 20);
  query.sampling.logprobs = 3;
  query.sampling.frequency_penalty = 0.5f;
  const int64_t before = device.downloaded_bytes();
  EXPECT_THAT(Ask(query).tokens, SizeIs(20));
  EXPECT_EQ(device.downloaded_bytes(), before);  // a query of the backbone alone copies no rows
  query.prompt_logits = true;
  EXPECT_THAT(Ask(query).tokens, SizeIs(20));
  const int64_t logits_bytes = static_cast<int64_t>(query.prompt.size() * 512 * sizeof(float));
  EXPECT_EQ(device.downloaded_bytes(), before + logits_bytes);  // those of the prompt
  cluster_.reset();
}

// Steps as large as they get, passes of experts in pieces, preempted sequences.
TEST_F(EngineTest, NoStepTakesDeviceMemory) {
  testing::TaggedDevice device;
  EngineClusterOptions options = SmallOptions();
  options.device = &device;
  options.expert_workers = 2;
  options.engine.kv_tokens = 160;
  options.engine.max_step_tokens = 24;
  options.expert.max_batch_rows = 10;
  ASSERT_NO_FATAL_FAILURE(StartWithExperts(options));
  device.ForbidAllocation();
  ExpectGoldenContinuations();
  EXPECT_GT(cluster_->engine().Load().preemptions, 0);
  cluster_.reset();
}

TEST_F(EngineTest, PreemptionsGiveTheSame) {
  EngineClusterOptions options = SmallOptions();
  options.engine.kv_tokens = 160;
  StartWithExperts(options);
  ExpectGoldenContinuations();
  EXPECT_GT(cluster_->engine().Load().preemptions, 0);
}

TEST_F(EngineTest, ExpertsWithoutRoomGiveTheSame) {
  EngineClusterOptions options = SmallOptions();
  options.expert.kv_tokens = 96;
  StartWithExperts(options);
  ExpectGoldenContinuations();
  EXPECT_GT(cluster_->engine().Load().preemptions, 0);
}

TEST_F(EngineTest, LogitsAreTheReferencesForAnyChunkSizeAndAmongOthers) {
  const std::vector<float> expected = *goldens_->at("math").Array("logits.math");
  std::vector<float> first;
  for (int64_t chunk : {512, 1, 5, 16}) {
    EngineClusterOptions options = SmallOptions();
    options.engine.max_prefill_chunk = chunk;
    StartWithExperts(options);
    std::vector<AnswerRecorder> others(31);
    for (int i = 0; i < 31 && chunk != 512; ++i) {  // the first time alone
      const std::string expert = i % 6 == 5 ? "" : kExperts[i % 5];
      Submit(others[i], GreedyQuery(goldens_->at(expert).prompts[i % 6].ids, expert, 4));
    }
    EngineRequest query = GreedyQuery(Prompt("math", "math").ids, "math");
    query.prompt_logits = true;
    const RecordedAnswer answer = Ask(std::move(query));
    EXPECT_LE(MaxDifference(answer.logits, expected), kTolerance);
    EXPECT_EQ(answer.ids(), Prompt("math", "math").greedy_ids);
    if (first.empty()) first = answer.logits;
    EXPECT_EQ(answer.logits, first) << "chunk " << chunk;  // bit for bit
  }
}

TEST_F(EngineTest, ScoringAloneGivesLogitsAndNoToken) {
  StartWithExperts();
  for (const std::string expert : {"", "law"}) {
    EngineRequest query = GreedyQuery(Prompt(expert, "law").ids, expert, 0);
    query.prompt_logits = true;
    const RecordedAnswer answer = Ask(std::move(query));
    EXPECT_LE(MaxDifference(answer.logits, *goldens_->at(expert).Array("logits.law")), kTolerance);
    EXPECT_THAT(answer.tokens, IsEmpty());
    EXPECT_EQ(answer.reason, FinishReason::kLength);
  }
}

TEST_F(EngineTest, HiddenStatesAreTheReferencesOnBothSidesOfTheSplit) {
  EngineClusterOptions options = SmallOptions();
  options.engine.max_prefill_chunk = 7;
  StartWithExperts(options);
  for (const std::string expert : {"", "sql"}) {
    const GoldenModel& golden = goldens_->at(expert);
    EngineRequest query = GreedyQuery(Prompt(expert, golden.hidden_prompt).ids, expert, 0);
    query.prompt_hidden = true;
    const RecordedAnswer answer = Ask(std::move(query));
    ASSERT_THAT(answer.hidden, SizeIs(9));
    EXPECT_TRUE(answer.hidden_in_order);
    for (int plane = 0; plane < 9; ++plane) {
      EXPECT_LE(MaxDifference(answer.hidden[plane], *golden.Array(absl::StrCat("hidden.", plane))),
                kTolerance)
          << expert << " plane " << plane;
    }
  }
}

// Experts of any contiguous range, against the same layers put together by hand.
TEST_F(EngineTest, SeveralDepthsSideBySideInOneStep) {
  EngineClusterOptions options = SmallOptions();
  options.engine.max_prefill_chunk = 9;
  Start(options);
  const std::map<std::string, model::LayerRange> ranges = {
      {"middle", {2, 6}}, {"bottom", {0, 3}}, {"one", {5, 6}}, {"top", {6, 8}}, {"all", {0, 8}}};
  for (const auto& [name, layers] : ranges) ASSERT_OK(cluster_->AddExpert(name, "medical", layers));
  const std::vector<int32_t> prompt = Prompt("", "code").ids;

  std::map<std::string, AnswerRecorder> recorders;
  for (const auto& [name, layers] : ranges) {
    EngineRequest query = GreedyQuery(prompt, name, 12);
    query.prompt_logits = true;
    query.prompt_hidden = true;
    Submit(recorders[name], std::move(query));
  }
  Submit(recorders[""], GreedyQuery(prompt, "", 12));
  EXPECT_THAT(recorders[""].Wait().ids(),
              ::testing::ElementsAreArray(Prompt("", "code").greedy_ids.begin(),
                                          Prompt("", "code").greedy_ids.begin() + 12));

  ASSERT_OK_AND_ASSIGN(const model::ModelSpec spec,
                       model::LoadModelSpec(GoldenFolder("ccoe/backbone")));
  ASSERT_OK_AND_ASSIGN(const auto base, model::Weights::Open(GoldenFolder("ccoe/backbone")));
  ASSERT_OK_AND_ASSIGN(const auto expert, model::Weights::Open(GoldenFolder("ccoe/medical")));
  for (const auto& [name, layers] : ranges) {
    const RecordedAnswer answer = recorders[name].Wait();
    ASSERT_OK(answer.status) << name;
    ASSERT_OK_AND_ASSIGN(auto run,
                         ModelRun::Create(spec, base, {}, expert, layers.first, layers.last));
    ASSERT_OK_AND_ASSIGN(const auto expected, run->Feed(prompt));
    EXPECT_EQ(answer.logits, expected.logits) << name;  // bit for bit
    EXPECT_EQ(answer.hidden, expected.hidden) << name;
    ASSERT_OK_AND_ASSIGN(auto greedy,
                         ModelRun::Create(spec, base, {}, expert, layers.first, layers.last));
    ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> ids, greedy->Greedy(prompt, 12));
    EXPECT_EQ(answer.ids(), ids) << name;
  }
}

TEST_F(EngineTest, ABackboneWithoutItsTopServesExpertsAlone) {
  EngineClusterOptions options = SmallOptions();
  options.held_layers = 4;
  StartWithExperts(options);
  EXPECT_EQ(Ask(GreedyQuery(Prompt("sql", "sql").ids, "sql")).ids(),
            Prompt("sql", "sql").greedy_ids);
  AnswerRecorder unused;
  EXPECT_THAT(cluster_->engine().Submit(GreedyQuery(Prompt("", "sql").ids, ""), unused.Sink()),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("layers [0, 4) of 8")));
}

TEST_F(EngineTest, TheSameSeedGivesTheSameTextWhateverElseRuns) {
  const auto sampled = [&](uint64_t seed) {
    EngineRequest query = GreedyQuery(Prompt("law", "general").ids, "law", 24);
    query.sampling.temperature = 1.2f;
    query.sampling.top_p = 0.95f;
    query.sampling.frequency_penalty = 0.3f;
    query.sampling.seed = seed;
    return query;
  };
  StartWithExperts();
  const std::vector<int32_t> alone = Ask(sampled(1)).ids();
  EXPECT_EQ(Ask(sampled(1)).ids(), alone);
  EXPECT_NE(Ask(sampled(2)).ids(), alone);

  EngineClusterOptions options = SmallOptions();
  options.engine.kv_tokens = 96;  // preempted on the way
  options.engine.max_prefill_chunk = 3;
  StartWithExperts(options);
  std::vector<AnswerRecorder> recorders(6);
  Submit(recorders[0], GreedyQuery(Prompt("", "code").ids, "", 40));
  for (int i = 1; i < 6; ++i) Submit(recorders[i], sampled(i == 3 ? 1 : 10 + i));
  EXPECT_EQ(recorders[3].Wait().ids(), alone);
  for (const AnswerRecorder& recorder : recorders) EXPECT_OK(recorder.Wait().status);
  EXPECT_GT(cluster_->engine().Load().preemptions, 0);
}

TEST_F(EngineTest, QueriesWithoutSeedGetDifferentOnes) {
  Start();
  EngineRequest query = GreedyQuery(Prompt("", "general").ids, "", 24);
  query.sampling.temperature = 2.0f;
  EXPECT_NE(Ask(query).ids(), Ask(query).ids());
}

TEST_F(EngineTest, StopIdsEndTheAnswerWithoutBeingEmitted) {
  Start();
  const GoldenPrompt& prompt = Prompt("", "sql");  // 504, 296, 359, 127, ...
  EngineRequest query = GreedyQuery(prompt.ids, "");
  query.sampling.stop_token_ids = {prompt.greedy_ids[3]};
  RecordedAnswer answer = Ask(query);
  EXPECT_EQ(answer.ids(),
            std::vector<int32_t>(prompt.greedy_ids.begin(), prompt.greedy_ids.begin() + 3));
  EXPECT_EQ(answer.reason, FinishReason::kStop);
  EXPECT_EQ(answer.usage.generated_tokens, 3);
  query.sampling.min_tokens = 6;
  EXPECT_GE(Ask(query).tokens.size(), 6u);
}

TEST_F(EngineTest, LogprobsComeWithTheTokens) {
  Start();
  EngineRequest query = GreedyQuery(Prompt("", "sql").ids, "", 3);
  query.sampling.logprobs = 4;
  for (const GeneratedToken& token : Ask(query).tokens) {
    ASSERT_THAT(token.best, SizeIs(4));
    EXPECT_EQ(token.best[0].token_id, token.token_id);
    EXPECT_EQ(token.best[0].logprob, *token.logprob);
    EXPECT_LE(*token.logprob, 0.0f);
  }
}

TEST_F(EngineTest, AnAnswerIsCutToTheContext) {
  Start();
  std::vector<int32_t> prompt(1020, 7);  // of a context of 1024
  RecordedAnswer answer = Ask(GreedyQuery(prompt, "", 100));
  EXPECT_THAT(answer.tokens, SizeIs(4));
  EXPECT_EQ(answer.reason, FinishReason::kLength);
  prompt.resize(1024, 7);
  AnswerRecorder unused;
  EXPECT_THAT(
      cluster_->engine().Submit(GreedyQuery(prompt, "", 1), unused.Sink()),
      StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("1023"), HasSubstr("1024"))));
}

TEST_F(EngineTest, BadQueriesAreRefusedAndTheSinkIsNeverCalled) {
  Start();
  AnswerRecorder unused;
  const auto submit = [&](EngineRequest query) {
    return cluster_->engine().Submit(std::move(query), unused.Sink());
  };
  EXPECT_THAT(submit(GreedyQuery({}, "")), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(submit(GreedyQuery({1, 512}, "")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("512")));
  EXPECT_THAT(submit(GreedyQuery({1, 2}, "nobody")),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("nobody")));
  EXPECT_THAT(cluster_->engine().Submit(GreedyQuery({1, 2}, ""), nullptr),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(unused.Now().finishes, 0);
}

TEST_F(EngineTest, CancelEndsARunningAndAWaitingQuery) {
  EngineClusterOptions options = SmallOptions();
  options.engine.max_running = 1;
  Start(options);
  AnswerRecorder running, waiting;
  const uint64_t first = Submit(running, GreedyQuery(Prompt("", "sql").ids, "", 900));
  const uint64_t second = Submit(waiting, GreedyQuery(Prompt("", "sql").ids, "", 900));
  running.AwaitTokens(2);
  cluster_->engine().Cancel(second);
  EXPECT_THAT(waiting.Wait().status, StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(waiting.Now().tokens, IsEmpty());
  cluster_->engine().Cancel(first);
  EXPECT_THAT(running.Wait().status, StatusIs(absl::StatusCode::kCancelled));
  cluster_->engine().Cancel(first);
  cluster_->engine().Cancel(12345);
  EXPECT_THAT(Ask(GreedyQuery(Prompt("", "sql").ids, "", 2)).tokens, SizeIs(2));
}

TEST_F(EngineTest, DeadlinesEndWaitingAndInFlightQueries) {
  EngineClusterOptions options = SmallOptions();
  options.engine.max_running = 1;
  StartWithExperts(options);
  cluster_->link().Hold();
  AnswerRecorder in_flight, waiting;
  EngineRequest query = GreedyQuery(Prompt("sql", "sql").ids, "sql");
  query.deadline = absl::Now() + absl::Seconds(2);
  Submit(in_flight, query);
  ASSERT_TRUE(cluster_->link().AwaitHeld(1));
  query.deadline = absl::Now() + absl::Milliseconds(20);
  Submit(waiting, query);
  EXPECT_THAT(waiting.Wait().status, StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_THAT(in_flight.Wait().status, StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_EQ(in_flight.Now().reason, FinishReason::kCancelled);
}

TEST_F(EngineTest, AFullQueueRefusesWithAHint) {
  EngineClusterOptions options = SmallOptions();
  options.engine.max_running = 1;
  options.engine.max_waiting = 2;
  StartWithExperts(options);
  cluster_->link().Hold();
  AnswerRecorder recorders[3], refused;
  const EngineRequest query = GreedyQuery(Prompt("sql", "sql").ids, "sql", 2);
  Submit(recorders[0], query);
  ASSERT_TRUE(cluster_->link().AwaitHeld(1));
  // The place of the first is free once the loop says so, before the swap comes back.
  ASSERT_TRUE(ccoe::testing::Eventually([&] { return cluster_->engine().Load().running > 0; }));
  Submit(recorders[1], query);
  Submit(recorders[2], query);
  EXPECT_THAT(cluster_->engine().Submit(query, refused.Sink()),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("retry in about")));
  cluster_->link().LetGo();
  for (const AnswerRecorder& recorder : recorders) EXPECT_THAT(recorder.Wait().tokens, SizeIs(2));
  EXPECT_EQ(refused.Now().finishes, 0);
}

TEST_F(EngineTest, DrainLetsRunningQueriesEndAndRefusesOthers) {
  Start();
  AnswerRecorder running, refused;
  Submit(running, GreedyQuery(Prompt("", "sql").ids, "", 20));
  EXPECT_TRUE(cluster_->engine().Drain(absl::Now() + absl::Minutes(1)));
  EXPECT_THAT(running.Now().tokens, SizeIs(20));
  EXPECT_THAT(cluster_->engine().Submit(GreedyQuery({1}, ""), refused.Sink()),
              StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(EngineTest, ExpertsOfOneWorkerShareAnEnvelope) {
  StartWithExperts();
  std::map<std::string, AnswerRecorder> recorders;
  for (const auto& [expert, golden] : *goldens_) {
    Submit(recorders[expert], GreedyQuery(Prompt(expert, "general").ids, expert));
  }
  for (const auto& [expert, golden] : *goldens_) recorders[expert].Wait();
  const std::vector<size_t> envelopes = cluster_->link().envelopes();
  EXPECT_GT(*std::max_element(envelopes.begin(), envelopes.end()), 1u);
}

TEST_F(EngineTest, SequencesAreReleasedAtTheExpertWhenTheyEnd) {
  StartWithExperts();
  std::vector<AnswerRecorder> recorders(4);
  for (auto& recorder : recorders)
    Submit(recorder, GreedyQuery(Prompt("code", "code").ids, "code", 3));
  for (auto& recorder : recorders) recorder.Wait();
  EXPECT_TRUE(cluster_->engine().Drain(absl::Now() + absl::Minutes(1)));
  std::vector<uint64_t> released = cluster_->link().released();
  std::sort(released.begin(), released.end());
  EXPECT_EQ(released.size(), 4u);
  EXPECT_EQ(std::unique(released.begin(), released.end()), released.end());
  EXPECT_EQ(cluster_->engine().Load().kv_tokens_used, 0);
}

class CountingObserver final : public EngineObserver {
 public:
  void OnStep(int64_t rows, int64_t sequences, absl::Duration) override {
    ++steps;
    this->rows += rows;
  }
  void OnSwap(const SwapEvent& event) override {
    ++swaps;
    bytes_out += event.bytes_out;
    bytes_in += event.bytes_in;
  }
  void OnFirstToken(absl::Duration) override { ++first_tokens; }
  void OnNextToken(absl::Duration) override { ++next_tokens; }
  void OnFinish(FinishReason, const Usage&) override { ++finishes; }

  std::atomic<int64_t> steps{0}, rows{0}, swaps{0}, bytes_out{0}, bytes_in{0}, first_tokens{0},
      next_tokens{0}, finishes{0};
};

TEST_F(EngineTest, TheObserverSeesStepsSwapsAndTokens) {
  CountingObserver observer;
  EngineClusterOptions options = SmallOptions();
  options.engine.observer = &observer;
  options.engine.wire_dtype = kernels::DType::kBF16;
  StartWithExperts(options);
  const int64_t prompt = static_cast<int64_t>(Prompt("code", "code").ids.size());
  EXPECT_THAT(Ask(GreedyQuery(Prompt("code", "code").ids, "code", 4)).tokens, SizeIs(4));
  EXPECT_TRUE(cluster_->engine().Drain(absl::Now() + absl::Minutes(1)));
  EXPECT_EQ(observer.steps, 4);
  EXPECT_EQ(observer.rows, prompt + 3);
  EXPECT_EQ(observer.swaps, 4);
  EXPECT_EQ(observer.bytes_out, (prompt + 3) * 64 * 2);
  EXPECT_EQ(observer.bytes_in, 4 * 64 * 2);
  EXPECT_EQ(observer.first_tokens, 1);
  EXPECT_EQ(observer.next_tokens, 3);
  EXPECT_EQ(observer.finishes, 1);
  cluster_.reset();  // before the observer
}

TEST(EngineCreateTest, RefusesOptionsAndModelsThatMakeNoSense) {
  ThreadTeam team(1);
  ASSERT_OK_AND_ASSIGN(const BackboneModel model, ccoe::testing::GoldenBackbone("ccoe/backbone"));
  EngineOptions options;
  options.max_running = 0;
  EXPECT_THAT(Engine::Create(model, kernels::MakeCpuOps(&team), nullptr, nullptr, options).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("max_running")));
  EXPECT_THAT(Engine::Create(model, nullptr, nullptr, nullptr, EngineOptions()).status(),
              StatusIs(absl::StatusCode::kInvalidArgument));
  BackboneModel headless = model;
  headless.head = nullptr;
  EXPECT_THAT(
      Engine::Create(headless, kernels::MakeCpuOps(&team), nullptr, nullptr, EngineOptions())
          .status(),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("head")));
}

TEST(EngineCreateTest, WithoutADirectoryThereAreNoExperts) {
  ThreadTeam team(1);
  ASSERT_OK_AND_ASSIGN(const BackboneModel model, ccoe::testing::GoldenBackbone("ccoe/backbone"));
  EngineOptions options;
  options.kv_tokens = 256;
  ASSERT_OK_AND_ASSIGN(const auto engine, Engine::Create(model, kernels::MakeCpuOps(&team), nullptr,
                                                         nullptr, options));
  AnswerRecorder unused;
  EXPECT_THAT(engine->Submit(GreedyQuery({1, 2}, "math"), unused.Sink()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no experts")));
}

}  // namespace
}  // namespace ccoe::engine
