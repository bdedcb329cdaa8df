// SPDX-License-Identifier: Apache-2.0
// Mixture-of-experts models through the engine: the golden continuations and the same bits,
// wherever the FFN experts are and whatever happens to the workers on the way.
#include "runtime/engine/remote_moe.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/base/retry_hint.h"
#include "runtime/engine/moe_statistics.h"
#include "tests/testing/engine_cluster.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/moe_cluster.h"
#include "tests/testing/recording_sink.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::engine {
namespace {

using ::ccoe::testing::AnswerRecorder;
using ::ccoe::testing::GoldenModel;
using ::ccoe::testing::GoldenPrompt;
using ::ccoe::testing::GreedyQuery;
using ::ccoe::testing::LoadGolden;
using ::ccoe::testing::MoeCluster;
using ::ccoe::testing::MoeClusterOptions;
using ::ccoe::testing::RecordedAnswer;
using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

absl::Status Broken(const char* why) {
  return exchange::SwapError(exchange::SwapReason::kLinkBroken, why);
}

constexpr char kModel[] = "mixtral-8x2";
constexpr int32_t kHere = FfnTable::kHere;

class RemoteMoeTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto golden = LoadGolden(kModel);
    ASSERT_OK(golden);
    golden_ = new GoldenModel(*std::move(golden));
    ASSERT_NO_FATAL_FAILURE(KeepReference());
  }
  static void TearDownTestSuite() {
    delete golden_;
    delete reference_;
  }

  // Logits of all prompts with every expert here.
  static void KeepReference() {
    ASSERT_OK_AND_ASSIGN(const auto cluster, MoeCluster::Create(MoeClusterOptions()));
    reference_ = new std::vector<std::vector<float>>();
    for (const GoldenPrompt& prompt : golden_->prompts) {
      reference_->push_back(Ask(*cluster, ScoreQuery(prompt)).logits);
      ASSERT_FALSE(reference_->back().empty());
    }
  }
  static EngineRequest ScoreQuery(const GoldenPrompt& prompt) {
    EngineRequest query = GreedyQuery(prompt.ids, "", 0);
    query.prompt_logits = true;
    return query;
  }
  static RecordedAnswer Ask(MoeCluster& cluster, EngineRequest query) {
    AnswerRecorder recorder;
    EXPECT_OK(cluster.engine().Submit(std::move(query), recorder.Sink()));
    return recorder.Wait();
  }
  // Every prompt scored and continued at once: the reference's bits, the golden continuations.
  static void ExpectReference(MoeCluster& cluster) {
    const size_t count = golden_->prompts.size();
    std::vector<AnswerRecorder> scores(count), answers(count);
    for (size_t i = 0; i < count; ++i) {
      const GoldenPrompt& prompt = golden_->prompts[i];
      ASSERT_OK(cluster.engine().Submit(ScoreQuery(prompt), scores[i].Sink()));
      ASSERT_OK(cluster.engine().Submit(GreedyQuery(prompt.ids, ""), answers[i].Sink()));
    }
    for (size_t i = 0; i < count; ++i) {
      const RecordedAnswer score = scores[i].Wait();
      EXPECT_OK(score.status);
      EXPECT_TRUE(score.logits == (*reference_)[i]) << golden_->prompts[i].id << ": other bits";
      const RecordedAnswer answer = answers[i].Wait();
      EXPECT_OK(answer.status);
      EXPECT_EQ(answer.ids(), golden_->prompts[i].greedy_ids) << golden_->prompts[i].id;
    }
  }
  static void ExpectReferenceWith(const MoeClusterOptions& options) {
    ASSERT_OK_AND_ASSIGN(const auto cluster, MoeCluster::Create(options));
    ExpectReference(*cluster);
  }

  static GoldenModel* golden_;
  static std::vector<std::vector<float>>* reference_;
};

GoldenModel* RemoteMoeTest::golden_ = nullptr;
std::vector<std::vector<float>>* RemoteMoeTest::reference_ = nullptr;

TEST_F(RemoteMoeTest, AnyNumberOfWorkersGivesTheBitsOfNone) {
  for (const int workers : {0, 1, 3, 8}) {
    SCOPED_TRACE(workers);
    MoeClusterOptions options;
    options.workers = workers;
    ExpectReferenceWith(options);
  }
}

TEST_F(RemoteMoeTest, DevicesWithMemoryOfTheirOwnGiveTheSameBits) {
  for (const int workers : {0, 3}) {
    SCOPED_TRACE(workers);
    testing::TaggedDevice device;
    MoeClusterOptions options;
    options.device = &device;
    options.workers = workers;
    ExpectReferenceWith(options);
    options.engine.combine_on_workers = true;
    options.engine.max_step_tokens = 16;
    ASSERT_OK_AND_ASSIGN(const auto cluster, MoeCluster::Create(options));
    device.ForbidAllocation();
    EXPECT_OK(Ask(*cluster, GreedyQuery(golden_->prompts[0].ids, "")).status);
  }
}

TEST_F(RemoteMoeTest, ReplicasUnevenSplitsAndExpertsWithTheBackboneGiveTheSameBits) {
  MoeClusterOptions options;
  options.workers = 3;
  options.holders = [](int32_t layer, int32_t expert) -> std::vector<int32_t> {
    if (expert == 0) return {kHere};
    if (expert < 4) return {0};
    if (expert == 7) return {2, 0, 1};
    return {1, layer % 2 == 0 ? 2 : 0};
  };
  ExpectReferenceWith(options);
}

TEST_F(RemoteMoeTest, SmallChunksAndManyStepsInFlightGiveTheSameBits) {
  MoeClusterOptions options;
  options.workers = 2;
  options.engine.max_prefill_chunk = 5;
  options.engine.max_steps_in_flight = 4;
  options.engine.max_step_tokens = 24;
  ExpectReferenceWith(options);
}

TEST_F(RemoteMoeTest, CombiningOnTheWorkersIsRightWithinRounding) {
  MoeClusterOptions options;
  options.workers = 3;
  options.engine.combine_on_workers = true;
  ASSERT_OK_AND_ASSIGN(const auto cluster, MoeCluster::Create(options));
  for (size_t i = 0; i < golden_->prompts.size(); ++i) {
    const RecordedAnswer answer = Ask(*cluster, ScoreQuery(golden_->prompts[i]));
    ASSERT_EQ(answer.logits.size(), (*reference_)[i].size());
    for (size_t j = 0; j < answer.logits.size(); ++j) {
      ASSERT_NEAR(answer.logits[j], (*reference_)[i][j], 1e-3);
    }
  }
}

TEST_F(RemoteMoeTest, AReplicaTakesOverInTheMiddleOfAStepWithTheSameBits) {
  MoeClusterOptions options;
  options.workers = 2;
  options.holders = [](int32_t, int32_t) -> std::vector<int32_t> { return {0, 1}; };
  ASSERT_OK_AND_ASSIGN(const auto cluster, MoeCluster::Create(options));
  cluster->link(0).SetScript([](int number, const exchange::SwapHeader&) {
    return number % 3 == 1 ? Broken("killed") : absl::OkStatus();
  });
  ExpectReference(*cluster);
}

TEST_F(RemoteMoeTest, WithoutAReplicaOnlyTheQueriesThatNeedTheWorkerEnd) {
  MoeClusterOptions options;
  options.workers = 8;  // one expert each
  options.engine.replica_patience = absl::Milliseconds(100);
  ASSERT_OK_AND_ASSIGN(const auto cluster, MoeCluster::Create(options));
  cluster->link(5).SetScript([](int, const exchange::SwapHeader& header) {
    return header.ffn()->layer == 2 ? Broken("the peer died") : absl::OkStatus();
  });
  int failed = 0;
  for (size_t i = 0; i < golden_->prompts.size(); ++i) {
    const RecordedAnswer answer = Ask(*cluster, ScoreQuery(golden_->prompts[i]));
    if (answer.status.ok()) {
      EXPECT_TRUE(answer.logits == (*reference_)[i]);
      continue;
    }
    ++failed;
    EXPECT_THAT(answer.status,
                StatusIs(absl::StatusCode::kUnavailable,
                         AllOf(HasSubstr("expert worker expert-5"), HasSubstr("step "),
                               HasSubstr("layer 2"), HasSubstr("FFN expert 5"),
                               HasSubstr("the peer died"))));
  }
  EXPECT_GT(failed, 0);
  cluster->link(5).SetScript(nullptr);
  ExpectReference(*cluster);
}

TEST_F(RemoteMoeTest, QueriesThatWaitForAnExpertHoldUpNoOthers) {
  MoeClusterOptions options;
  options.workers = 8;  // one expert each
  options.engine.replica_patience = absl::Hours(1);
  ASSERT_OK_AND_ASSIGN(const auto cluster, MoeCluster::Create(options));
  std::atomic<bool> broken = true;
  cluster->link(5).SetScript([&](int, const exchange::SwapHeader& header) {
    return broken && header.ffn()->layer == 2 ? Broken("the peer died") : absl::OkStatus();
  });
  // One token each, in common steps; those that choose expert 5 at layer 2 wait.
  constexpr int kQueries = 32;
  std::vector<AnswerRecorder> recorders(kQueries);
  for (int i = 0; i < kQueries; ++i) {
    ASSERT_OK(cluster->engine().Submit(GreedyQuery({i}, "", 1), recorders[i].Sink()));
  }
  const auto finished = [&] {
    int count = 0;
    for (AnswerRecorder& recorder : recorders) count += recorder.Now().finishes;
    return count;
  };
  const absl::Time enough = absl::Now() + absl::Minutes(1);
  while (finished() < kQueries / 4 && absl::Now() < enough) absl::SleepFor(absl::Milliseconds(5));
  EXPECT_GE(finished(), kQueries / 4);
  EXPECT_LT(finished(), kQueries);
  broken = false;
  for (AnswerRecorder& recorder : recorders) EXPECT_OK(recorder.Wait().status);
  ExpectReference(*cluster);
}

TEST_F(RemoteMoeTest, AWorkerThatStaysFullEndsTheQueryWithAHint) {
  MoeClusterOptions options;
  options.workers = 2;
  options.engine.room_patience = absl::Milliseconds(50);
  ASSERT_OK_AND_ASSIGN(const auto cluster, MoeCluster::Create(options));
  cluster->link(0).SetScript([](int, const exchange::SwapHeader&) {
    return exchange::SwapError(exchange::SwapReason::kQueueFull, "full");
  });
  const RecordedAnswer answer = Ask(*cluster, ScoreQuery(golden_->prompts[0]));
  EXPECT_THAT(answer.status,
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("full"), HasSubstr("FFN expert"), HasSubstr("expert-0"))));
  EXPECT_TRUE(answer.status.GetPayload(kRetryAfterPayload).has_value());
}

TEST_F(RemoteMoeTest, WithoutAReplicaQueriesWaitForOneAndGoOnWithTheSameBits) {
  MoeClusterOptions options;
  options.workers = 2;
  ASSERT_OK_AND_ASSIGN(const auto cluster, MoeCluster::Create(options));
  std::atomic<int> refused = 0;
  cluster->link(1).SetScript([&](int, const exchange::SwapHeader&) {
    return ++refused <= 3 ? Broken("it restarts") : absl::OkStatus();
  });
  ExpectReference(*cluster);
  EXPECT_GT(refused, 3);
}

TEST_F(RemoteMoeTest, AWorkerThatIsFullIsAskedAgainAndNotTakenForDead) {
  MoeClusterOptions options;
  options.workers = 2;
  options.engine.replica_patience = absl::ZeroDuration();
  ASSERT_OK_AND_ASSIGN(const auto cluster, MoeCluster::Create(options));
  cluster->link(0).SetScript([](int number, const exchange::SwapHeader&) {
    return number % 3 == 1 ? exchange::SwapError(exchange::SwapReason::kQueueFull, "full")
                           : absl::OkStatus();
  });
  ExpectReference(*cluster);
}

TEST_F(RemoteMoeTest, SwapsThatNobodyWaitsForAreCancelled) {
  MoeClusterOptions options;
  options.workers = 1;
  ASSERT_OK_AND_ASSIGN(const auto cluster, MoeCluster::Create(options));
  cluster->link(0).Hold();
  AnswerRecorder recorder;
  ASSERT_OK_AND_ASSIGN(
      const uint64_t handle,
      cluster->engine().Submit(GreedyQuery(golden_->prompts[0].ids, ""), recorder.Sink()));
  ASSERT_TRUE(cluster->link(0).AwaitHeld(1));
  cluster->engine().Cancel(handle);
  recorder.Wait();
  EXPECT_TRUE(cluster->engine().Drain(absl::Now() + absl::Minutes(1)));
  EXPECT_THAT(cluster->link(0).cancelled(), ::testing::ElementsAre(1u));
  cluster->link(0).LetGo();  // the late answer finds nobody
}

TEST_F(RemoteMoeTest, PartsThatALinkMayNotCarryTogetherGoOneByOne) {
  MoeClusterOptions options;
  options.workers = 2;
  ASSERT_OK_AND_ASSIGN(const auto cluster, MoeCluster::Create(options));
  exchange::LinkBounds bounds;
  bounds.max_rows = 1;
  cluster->link(0).SetBounds(bounds);
  ExpectReference(*cluster);
  for (const size_t swaps : cluster->link(0).envelopes()) EXPECT_EQ(swaps, 1u);
}

TEST_F(RemoteMoeTest, AnExpertThatNoWorkerHoldsIsNamed) {
  MoeClusterOptions options;
  options.workers = 1;
  options.holders = [](int32_t, int32_t) -> std::vector<int32_t> { return {}; };
  options.engine.replica_patience = absl::Milliseconds(60);
  ASSERT_OK_AND_ASSIGN(const auto cluster, MoeCluster::Create(options));
  const RecordedAnswer answer = Ask(*cluster, ScoreQuery(golden_->prompts[0]));
  EXPECT_THAT(answer.status,
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("no worker holds FFN expert"), HasSubstr("of layer 0"))));
}

TEST_F(RemoteMoeTest, AQueryThatIsCancelledWhileItsRowsAreAwayLeavesTheOthersAlone) {
  MoeClusterOptions options;
  options.workers = 1;
  ASSERT_OK_AND_ASSIGN(const auto cluster, MoeCluster::Create(options));
  cluster->link(0).Hold();
  AnswerRecorder cancelled, lives;
  ASSERT_OK_AND_ASSIGN(
      const uint64_t handle,
      cluster->engine().Submit(GreedyQuery(golden_->prompts[0].ids, ""), cancelled.Sink()));
  ASSERT_OK(cluster->engine().Submit(GreedyQuery(golden_->prompts[1].ids, ""), lives.Sink()));
  ASSERT_TRUE(cluster->link(0).AwaitHeld(1));
  cluster->engine().Cancel(handle);
  EXPECT_THAT(cancelled.Wait().status, StatusIs(absl::StatusCode::kCancelled));
  cluster->link(0).LetGo();
  EXPECT_EQ(lives.Wait().ids(), golden_->prompts[1].greedy_ids);
}

// What a query of `cluster` chose, and the bits of another that ran beside it.
struct Routing {
  std::vector<std::vector<int32_t>> experts;  // by call
  std::vector<std::vector<float>> weights;
  std::vector<int32_t> layers;
  std::vector<float> neighbour;
};

class RoutingSink final : public TokenSink {
 public:
  RoutingSink(Routing* routing, absl::Notification* finished)
      : routing_(routing), finished_(finished) {}
  void OnToken(const GeneratedToken&) override {}
  void OnRouting(int32_t layer, int64_t, absl::Span<const int32_t>,
                 absl::Span<const int32_t> experts, absl::Span<const float> weights) override {
    routing_->layers.push_back(layer);
    routing_->experts.emplace_back(experts.begin(), experts.end());
    routing_->weights.emplace_back(weights.begin(), weights.end());
  }
  void OnFinish(FinishReason, const absl::Status& status, const Usage&) override {
    EXPECT_OK(status);
    finished_->Notify();
  }

 private:
  Routing* const routing_;
  absl::Notification* const finished_;
};

// Holds the engine's thread at the end of its query, so that what is submitted meanwhile goes into
// one step.
class HoldingSink final : public TokenSink {
 public:
  HoldingSink(absl::Notification* holds, absl::Notification* go_on)
      : holds_(holds), go_on_(go_on) {}
  void OnToken(const GeneratedToken&) override {}
  void OnFinish(FinishReason, const absl::Status&, const Usage&) override {
    holds_->Notify();
    go_on_->WaitForNotification();
  }

 private:
  absl::Notification* const holds_;
  absl::Notification* const go_on_;
};

// Expert 3 of layer 0 is with a worker that is full, all others are here.
class FullWorkerTest : public RemoteMoeTest {
 protected:
  static constexpr int32_t kExpert = 3;

  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(here_, MoeCluster::Create(MoeClusterOptions()));
    for (int32_t token = 1; with_ < 0 || without_ < 0; ++token) {
      Routing routing;
      absl::Notification finished;
      EngineRequest query = Score(token);
      query.routing = true;
      ASSERT_OK(here_->engine().Submit(std::move(query),
                                       std::make_unique<RoutingSink>(&routing, &finished)));
      finished.WaitForNotification();
      const auto& chosen = routing.experts.front();
      const bool needs = std::find(chosen.begin(), chosen.end(), kExpert) != chosen.end();
      (needs ? with_ : without_) = token;
    }
  }
  void Start(absl::Duration room_patience) {
    MoeClusterOptions options;
    options.workers = 1;
    options.holders = [](int32_t layer, int32_t expert) -> std::vector<int32_t> {
      return {layer == 0 && expert == kExpert ? 0 : kHere};
    };
    options.engine.room_patience = room_patience;
    ASSERT_OK_AND_ASSIGN(cluster_, MoeCluster::Create(options));
    cluster_->link(0).SetScript([&](int, const exchange::SwapHeader&) {
      return full_ ? exchange::SwapError(exchange::SwapReason::kQueueFull, "full")
                   : absl::OkStatus();
    });
  }
  static EngineRequest Score(int32_t token) {
    GoldenPrompt prompt;
    prompt.ids = {token};
    return ScoreQuery(prompt);
  }
  // Their queries go into one step. Once a test.
  std::vector<uint64_t> SubmitTogether(
      const std::vector<std::pair<int32_t, AnswerRecorder*>>& queries) {
    absl::Notification holds, go_on;
    EXPECT_OK(cluster_->engine().Submit(Score(without_),
                                        std::make_unique<HoldingSink>(&holds_, &go_on_)));
    holds_.WaitForNotification();
    std::vector<uint64_t> handles;
    for (const auto& [token, recorder] : queries) {
      handles.push_back(*cluster_->engine().Submit(Score(token), recorder->Sink()));
    }
    go_on_.Notify();
    return handles;
  }

  absl::Notification holds_, go_on_;  // the engine's thread may still be looking at them
  std::unique_ptr<MoeCluster> here_, cluster_;
  int32_t with_ = -1, without_ = -1;  // tokens whose rows go there, and do not
  std::atomic<bool> full_ = true;
};

TEST_F(FullWorkerTest, AQueryThatWaitsHoldsUpNoOther) {
  Start(absl::Hours(1));
  AnswerRecorder waits, gives_up, gets_on;
  const std::vector<uint64_t> handles =
      SubmitTogether({{with_, &waits}, {with_, &gives_up}, {without_, &gets_on}});
  EXPECT_TRUE(gets_on.Wait().logits == Ask(*here_, Score(without_)).logits);
  cluster_->engine().Cancel(handles[1]);
  EXPECT_THAT(gives_up.Wait().status, StatusIs(absl::StatusCode::kCancelled));
  EXPECT_EQ(waits.Now().finishes, 0);
  full_ = false;
  EXPECT_TRUE(waits.Wait().logits == Ask(*here_, Score(with_)).logits);
}

TEST_F(FullWorkerTest, AQueryThatIsPutOffHasAllOfItsPatience) {
  constexpr absl::Duration kPatience = absl::Milliseconds(400);
  Start(kPatience);
  AnswerRecorder waits, gets_on;
  const absl::Time began = absl::Now();
  SubmitTogether({{with_, &waits}, {without_, &gets_on}});
  EXPECT_OK(gets_on.Wait().status);
  EXPECT_THAT(waits.Wait().status, StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_GE(absl::Now() - began, kPatience);
}

TEST_F(RemoteMoeTest, EveryChoiceIsCountedWhereverTheExpertsAre) {
  ASSERT_OK_AND_ASSIGN(const auto backbone, ::ccoe::testing::GoldenBackbone(kModel));
  std::vector<MoeSnapshot> snapshots;
  for (const int workers : {0, 2}) {
    MoeStatistics statistics(backbone.spec);
    MoeClusterOptions options;
    options.workers = workers;
    options.engine.moe_statistics = &statistics;
    options.engine.max_prefill_chunk = 5;  // so that some steps need no logits
    ASSERT_OK_AND_ASSIGN(const auto cluster, MoeCluster::Create(options));
    const GoldenPrompt& prompt = golden_->prompts[0];
    const RecordedAnswer answer = Ask(*cluster, GreedyQuery(prompt.ids, "", 6));
    EXPECT_EQ(answer.ids().size(), 6u);
    const MoeSnapshot& snapshot = snapshots.emplace_back(statistics.Snapshot(/*with_pairs=*/true));
    EXPECT_THAT(snapshot.layers, ::testing::SizeIs(4));
    for (const auto& layer : snapshot.layers) EXPECT_EQ(layer.rows, prompt.ids.size() + 5);
  }
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(snapshots[0].layers[i].tokens, snapshots[1].layers[i].tokens);
    EXPECT_EQ(snapshots[0].layers[i].pairs, snapshots[1].layers[i].pairs);
  }
}

TEST_F(RemoteMoeTest, AQueryGetsItsRoutingWhereverTheExpertsAre) {
  std::vector<Routing> routings(2);
  for (size_t i = 0; i < 2; ++i) {
    MoeClusterOptions options;
    options.workers = 2 * static_cast<int>(i);
    ASSERT_OK_AND_ASSIGN(const auto cluster, MoeCluster::Create(options));
    EngineRequest query = ScoreQuery(golden_->prompts[0]);
    query.routing = true;
    absl::Notification finished;
    AnswerRecorder neighbour;
    ASSERT_OK(cluster->engine().Submit(ScoreQuery(golden_->prompts[1]), neighbour.Sink()));
    ASSERT_OK(cluster->engine().Submit(std::move(query),
                                       std::make_unique<RoutingSink>(&routings[i], &finished)));
    finished.WaitForNotification();
    EXPECT_TRUE(neighbour.Wait().logits == (*reference_)[1]);
  }
  EXPECT_THAT(routings[0].layers, ::testing::ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(routings[0].layers, routings[1].layers);
  EXPECT_EQ(routings[0].experts, routings[1].experts);
  EXPECT_EQ(routings[0].weights, routings[1].weights);
}

TEST_F(RemoteMoeTest, DecodeStepsWithAllExpertsHereAreCapturedAndOthersNot) {
  for (const int workers : {0, 1}) {
    testing::TaggedDevice device;
    MoeClusterOptions options;
    options.device = &device;
    options.workers = workers;
    ASSERT_OK_AND_ASSIGN(const auto cluster, MoeCluster::Create(options));
    EXPECT_OK(Ask(*cluster, GreedyQuery(golden_->prompts[0].ids, "", 6)).status);
    EXPECT_EQ(device.captured_steps(), workers == 0 ? 5 : 0);
  }
}

TEST_F(RemoteMoeTest, LayersBecomeLocalAndRemoteAsTheTableChanges) {
  MoeClusterOptions options;
  options.workers = 1;
  ASSERT_OK_AND_ASSIGN(const auto cluster, MoeCluster::Create(options));
  ExpectReference(*cluster);
  const std::vector<std::vector<int32_t>> away(8, {0}), here(8, {kHere}), both(8, {0, kHere});
  cluster->directory().Set(std::make_shared<FfnTable>(cluster->directory().Table()->peers,
                                                      FfnTable::Holders{away, here, both, away}));
  ExpectReference(*cluster);
}

TEST_F(RemoteMoeTest, ARequestMaySteerTheGatesWhereverTheExpertsAre) {
  auto control = std::make_shared<MoeControl>();
  control->all_layers.active_experts = 1;
  control->all_layers.masked = {2};
  std::vector<std::vector<float>> logits;
  for (const int workers : {0, 3}) {
    MoeClusterOptions options;
    options.workers = workers;
    options.engine.moe_policy.allow_active_experts = true;
    options.engine.moe_policy.allow_masks = true;
    ASSERT_OK_AND_ASSIGN(const auto cluster, MoeCluster::Create(options));
    EngineRequest query = ScoreQuery(golden_->prompts[1]);
    query.moe = control;
    AnswerRecorder plain;
    ASSERT_OK(cluster->engine().Submit(ScoreQuery(golden_->prompts[1]), plain.Sink()));
    const RecordedAnswer answer = Ask(*cluster, std::move(query));
    EXPECT_OK(answer.status);
    logits.push_back(answer.logits);
    EXPECT_TRUE(plain.Wait().logits == (*reference_)[1]) << "steered by its neighbour";
  }
  EXPECT_TRUE(logits[0] == logits[1]);
  EXPECT_FALSE(logits[0] == (*reference_)[1]);
}

}  // namespace
}  // namespace ccoe::engine
