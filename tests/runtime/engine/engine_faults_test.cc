// SPDX-License-Identifier: Apache-2.0
// What becomes of an engine's queries where an expert worker dies, is full, or has forgotten: held
// to the golden answers.
#include <map>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/engine/engine.h"
#include "runtime/exchange/swap_result.h"
#include "tests/testing/engine_cluster.h"
#include "tests/testing/golden_engine.h"
#include "tests/testing/recording_sink.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::engine {
namespace {

using ::ccoe::testing::AnswerRecorder;
using ::ccoe::testing::EngineClusterOptions;
using ::ccoe::testing::GreedyQuery;
using ::ccoe::testing::RecordedAnswer;
using ::ccoe::testing::SmallOptions;
using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;

const std::vector<std::string> kExperts = testing::GoldenExperts();

class EngineFaultsTest : public testing::GoldenEngineTest {};

absl::Status Broken(const char* why) {
  return exchange::SwapError(exchange::SwapReason::kLinkBroken, why);
}

TEST_F(EngineFaultsTest, ADyingExpertWithoutAReplicaEndsItsQueriesWithAClearErrorAndNoOther) {
  EngineClusterOptions options = SmallOptions();
  options.expert_workers = 5;
  options.engine.replica_patience = absl::Milliseconds(120);
  StartWithExperts(options);
  cluster_->link(1).SetScript([](int number, const exchange::SwapHeader&) {
    return number < 3 ? absl::OkStatus() : Broken("connection reset by peer");
  });
  std::map<std::string, AnswerRecorder> recorders;
  for (const auto& [expert, golden] : *goldens_) {
    Submit(recorders[expert], GreedyQuery(Prompt(expert, "general").ids, expert));
  }
  for (const auto& [expert, golden] : *goldens_) {
    const RecordedAnswer answer = recorders[expert].Wait();
    if (expert == "math") {
      EXPECT_EQ(answer.reason, FinishReason::kError);
      EXPECT_THAT(answer.status, StatusIs(absl::StatusCode::kUnavailable,
                                          AllOf(HasSubstr("math@1"), HasSubstr("layers [4, 8)"),
                                                HasSubstr("connection reset by peer"),
                                                HasSubstr("no other worker took over in"))));
      EXPECT_THAT(answer.tokens, SizeIs(3));
    } else {
      EXPECT_EQ(answer.ids(), Prompt(expert, "general").greedy_ids) << expert;
    }
  }
}

TEST_F(EngineFaultsTest, AReplicaTakesOverAndNoTokenIsLostDoubledOrOther) {
  for (const exchange::SwapReason reason :
       {exchange::SwapReason::kLinkBroken, exchange::SwapReason::kShuttingDown,
        exchange::SwapReason::kDeviceFailed, exchange::SwapReason::kUnknownExpert}) {
    SCOPED_TRACE(exchange::SwapReasonName(reason));
    EngineClusterOptions options = SmallOptions();
    options.expert_workers = 2;
    StartWithExperts(options);
    for (size_t i = 0; i < kExperts.size(); ++i) {
      ASSERT_OK(cluster_->AddExpert(kExperts[i], kExperts[i], {4, 8}, 1 - static_cast<int>(i) % 2));
    }
    cluster_->link(0).SetScript([reason](int number, const exchange::SwapHeader&) {
      return number < 9 ? absl::OkStatus() : exchange::SwapError(reason, "gone");
    });
    std::map<std::string, AnswerRecorder> recorders;
    for (const auto& [expert, golden] : *goldens_) {
      Submit(recorders[expert], GreedyQuery(Prompt(expert, "general").ids, expert));
    }
    int64_t failovers = 0;
    for (const auto& [expert, golden] : *goldens_) {
      const RecordedAnswer answer = recorders[expert].Wait();
      EXPECT_OK(answer.status);
      EXPECT_EQ(answer.ids(), Prompt(expert, "general").greedy_ids) << expert;
      EXPECT_FALSE(answer.usage.numerics_changed);
      failovers += answer.usage.failovers;
    }
    EXPECT_GE(failovers, 2);
  }
}

TEST_F(EngineFaultsTest, AReplicaThatComesLateIsWaitedFor) {
  EngineClusterOptions options = SmallOptions();
  options.expert_workers = 2;
  ASSERT_NO_FATAL_FAILURE(Start(options));
  ASSERT_OK(cluster_->AddExpert("math", "math", {4, 8}, 0));
  cluster_->link(0).SetScript([](int number, const exchange::SwapHeader&) {
    return number < 3 ? absl::OkStatus() : Broken("gone");
  });
  AnswerRecorder recorder;
  Submit(recorder, GreedyQuery(Prompt("math", "general").ids, "math"));
  recorder.AwaitTokens(3);
  ASSERT_OK(cluster_->AddExpert("math", "math", {4, 8}, 1));
  const RecordedAnswer answer = recorder.Wait();
  EXPECT_EQ(answer.ids(), Prompt("math", "general").greedy_ids);
  EXPECT_EQ(answer.usage.failovers, 1);
}

TEST_F(EngineFaultsTest, ReplicasOfTheSameNumericsComeFirstAndOthersAreSaid) {
  EngineClusterOptions options = SmallOptions();
  options.expert_workers = 2;
  ASSERT_NO_FATAL_FAILURE(Start(options));
  ASSERT_OK(cluster_->AddExpert("math", "math", {4, 8}, 0, "cpu/a"));
  ASSERT_OK(cluster_->AddExpert("math", "math", {4, 8}, 1, "cpu/b"));
  cluster_->link(0).SetScript([](int, const exchange::SwapHeader&) { return Broken("gone"); });
  const RecordedAnswer answer = Ask(GreedyQuery(Prompt("math", "general").ids, "math"));
  EXPECT_EQ(answer.ids(), Prompt("math", "general").greedy_ids);
  EXPECT_TRUE(answer.usage.numerics_changed);
}

TEST_F(EngineFaultsTest, AWorkerThatIsFullKeepsTheKvAndIsAskedAgain) {
  StartWithExperts();
  cluster_->link().SetScript([](int number, const exchange::SwapHeader&) {
    return number % 4 == 3 ? exchange::SwapError(exchange::SwapReason::kQueueFull, "full")
                           : absl::OkStatus();
  });
  const RecordedAnswer answer = Ask(GreedyQuery(Prompt("code", "code").ids, "code"));
  EXPECT_OK(answer.status);
  EXPECT_EQ(answer.ids(), Prompt("code", "code").greedy_ids);
  EXPECT_EQ(answer.usage.preemptions, 0);
}

TEST_F(EngineFaultsTest, AnExpertThatLostItsKvIsFedAgainFromTheFirstToken) {
  StartWithExperts();
  cluster_->link().SetScript([](int number, const exchange::SwapHeader&) {
    return number == 5
               ? exchange::SwapError(exchange::SwapReason::kKvLost, "no KV for the sequence")
               : absl::OkStatus();
  });
  const RecordedAnswer answer = Ask(GreedyQuery(Prompt("code", "code").ids, "code"));
  EXPECT_OK(answer.status);
  EXPECT_EQ(answer.ids(), Prompt("code", "code").greedy_ids);
  EXPECT_EQ(answer.usage.preemptions, 1);
}

TEST_F(EngineFaultsTest, OneQueryTooLongForItsExpertIsRefusedAloneAmongThirty) {
  EngineClusterOptions options = SmallOptions();
  options.expert.kv_tokens = 256;
  StartWithExperts(options);
  std::vector<AnswerRecorder> recorders(30);
  for (AnswerRecorder& recorder : recorders) {
    Submit(recorder, GreedyQuery(Prompt("code", "code").ids, "code", 8));
  }
  AnswerRecorder refused;
  EXPECT_THAT(
      cluster_->engine().Submit(GreedyQuery(std::vector<int32_t>(257, 1), "code"), refused.Sink()),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("256 tokens")));
  const std::vector<int32_t> all = Prompt("code", "code").greedy_ids;
  const std::vector<int32_t> expected(all.begin(), all.begin() + 8);
  for (AnswerRecorder& recorder : recorders) EXPECT_EQ(recorder.Wait().ids(), expected);
}

}  // namespace
}  // namespace ccoe::engine
