#include "runtime/experts/expert_runner.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "runtime/exchange/local/local_link.h"
#include "tests/runtime/exchange/swap_recorder.h"
#include "tests/runtime/experts/tiny_expert.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::experts {
namespace {

using ::ccoe::testing::StatusIs;
using exchange::ReturnRows;
using exchange::SwapResult;
using ::testing::HasSubstr;

constexpr int64_t kHidden = 32;

class ExpertRunnerTest : public ::testing::Test {
 protected:
  // A runner with the experts "math" and "code".
  void Start(ExpertRunnerOptions options = {}) {
    options.page_tokens = 4;
    ASSERT_OK_AND_ASSIGN(runner_,
                         ExpertRunner::Create(TinySpec(), kernels::MakeCpuOps(&team_), options));
    if (math_.weights == nullptr) {
      math_ = experts_.Make("math", 1);
      code_ = experts_.Make("code", 2);
    }
    ASSERT_OK(runner_->AddExpert(math_));
    ASSERT_OK(runner_->AddExpert(code_));
    peer_ = runner_->AddPeer();
  }

  exchange::StepHeader Header(std::vector<exchange::SwapSequence> sequences,
                              const std::string& expert = "math") {
    exchange::StepHeader header = exchange::MakeHeader(++step_, std::move(sequences), kHidden);
    header.expert = {expert, 1};
    header.layers = kTinyLayers;
    return header;
  }

  // Rows [first, first + count) of the sequence whose hidden states follow from `seed`.
  static std::vector<float> Rows(uint32_t seed, int64_t first, int64_t count) {
    const std::vector<float> all = TinyRows(64, seed);
    return std::vector<float>(all.begin() + first * kHidden,
                              all.begin() + (first + count) * kHidden);
  }

  absl::StatusOr<std::vector<float>> Await(const exchange::StepHeader& header) {
    absl::StatusOr<SwapResult> result = recorder_.Await(header.step_id);
    if (!result.ok()) return result.status();
    return result->rows;
  }

  // One swap of `peer`, answered before this returns.
  absl::StatusOr<std::vector<float>> Swap(uint64_t peer, const exchange::StepHeader& header,
                                          std::vector<float> rows) {
    runner_->HandleSwap(peer, header, std::move(rows), recorder_.Keep(header.step_id));
    return Await(header);
  }
  // Rows [first, first + count) of sequence `id`, alone, all coming back.
  absl::StatusOr<std::vector<float>> SwapRows(uint64_t id, int64_t first, int64_t count,
                                              const std::string& expert = "math") {
    return Swap(peer_, Header({{id, first, count, ReturnRows::kAll}}, expert),
                Rows(id, first, count));
  }

  // Keeps the compute thread busy until the returned notification is notified, so that what comes
  // meanwhile waits.
  std::shared_ptr<absl::Notification> Block() {
    auto go = std::make_shared<absl::Notification>();
    auto busy = std::make_shared<absl::Notification>();
    runner_->HandleSwap(peer_, Header({{9999, 0, 1, ReturnRows::kNone}}), Rows(1, 0, 1),
                        [go, busy](absl::StatusOr<SwapResult>) {
                          busy->Notify();
                          go->WaitForNotification();
                        });
    EXPECT_TRUE(busy->WaitForNotificationWithTimeout(exchange::kTestPatience));
    return go;
  }

  ExpertLoad LoadOf(const std::string& name) {
    for (const ExpertLoad& load : runner_->Load()) {
      if (load.expert.name == name) return load;
    }
    return {};
  }
  // Releases are carried out by the compute thread: a swap behind them says that they were.
  void AwaitReleases() { ASSERT_OK(SwapRows(8888, 0, 1, "code").status()); }

  TinyExperts experts_;
  ThreadTeam team_{1};
  Bundle math_, code_;
  std::unique_ptr<ExpertRunner> runner_;
  exchange::SwapRecorder recorder_;
  uint64_t peer_ = 0;
  uint64_t step_ = 0;
};

TEST_F(ExpertRunnerTest, ManySequencesAtOnceEqualOneByOneBitForBit) {
  Start();
  constexpr int kSequences = 9;
  std::vector<std::vector<float>> alone;
  for (uint64_t id = 1; id <= kSequences; ++id) {
    ASSERT_OK_AND_ASSIGN(auto rows, SwapRows(id, 0, 3 + static_cast<int64_t>(id)));
    alone.push_back(std::move(rows));
    runner_->HandleRelease(peer_, id);
  }
  std::vector<exchange::SwapSequence> sequences;
  std::vector<float> rows, expected;
  for (uint64_t id = 1; id <= kSequences; ++id) {
    const int64_t count = 3 + static_cast<int64_t>(id);
    const ReturnRows back = id % 3 == 0   ? ReturnRows::kNone
                            : id % 3 == 1 ? ReturnRows::kLast
                                          : ReturnRows::kAll;
    sequences.push_back({id, 0, count, back});
    const std::vector<float> own = Rows(id, 0, count);
    rows.insert(rows.end(), own.begin(), own.end());
    const int64_t skipped = (count - sequences.back().returned()) * kHidden;
    expected.insert(expected.end(), alone[id - 1].begin() + skipped, alone[id - 1].end());
  }
  ASSERT_OK_AND_ASSIGN(const auto together, Swap(peer_, Header(sequences), rows));
  EXPECT_EQ(together, expected);
}

TEST_F(ExpertRunnerTest, WaitingSwapsOfOneExpertAreMergedAndEqualThoseAlone) {
  Start();
  std::vector<std::vector<float>> alone;
  for (uint64_t id = 1; id <= 6; ++id) {
    ASSERT_OK_AND_ASSIGN(auto rows, SwapRows(id, 0, 5, id % 2 == 0 ? "math" : "code"));
    alone.push_back(std::move(rows));
    runner_->HandleRelease(peer_, id);
  }
  const auto go = Block();
  const int64_t batches = LoadOf("math").batches + LoadOf("code").batches;
  const uint64_t other = runner_->AddPeer();
  std::vector<exchange::StepHeader> headers;
  for (uint64_t id = 1; id <= 6; ++id) {
    headers.push_back(Header({{id, 0, 5, ReturnRows::kAll}}, id % 2 == 0 ? "math" : "code"));
    runner_->HandleSwap(id <= 3 ? peer_ : other, headers.back(), Rows(id, 0, 5),
                        recorder_.Keep(headers.back().step_id));
  }
  EXPECT_EQ(LoadOf("math").waiting_rows, 15);
  go->Notify();
  for (uint64_t id = 1; id <= 6; ++id) {
    ASSERT_OK_AND_ASSIGN(const auto rows, Await(headers[id - 1]));
    EXPECT_EQ(rows, alone[id - 1]) << id;
  }
  EXPECT_EQ(LoadOf("math").batches + LoadOf("code").batches, batches + 2);
}

TEST_F(ExpertRunnerTest, AnyCutIntoChunksGivesTheSameRows) {
  Start();
  ASSERT_OK_AND_ASSIGN(const auto whole, SwapRows(1, 0, 11));
  runner_->HandleRelease(peer_, 1);
  std::vector<float> pieces;
  int64_t first = 0;
  for (const int64_t count : {1, 4, 2, 3, 1}) {
    ASSERT_OK_AND_ASSIGN(const auto piece, SwapRows(1, first, count));
    pieces.insert(pieces.end(), piece.begin(), piece.end());
    first += count;
  }
  EXPECT_EQ(pieces, whole);
}

TEST_F(ExpertRunnerTest, StepsOfASequenceQueuedTogetherRunInOrder) {
  Start();
  ASSERT_OK_AND_ASSIGN(const auto whole, SwapRows(1, 0, 6));
  runner_->HandleRelease(peer_, 1);
  const auto go = Block();
  std::vector<exchange::StepHeader> headers;
  for (int64_t position = 0; position < 6; ++position) {
    headers.push_back(Header({{1, position, 1, ReturnRows::kAll}}));
    runner_->HandleSwap(peer_, headers.back(), Rows(1, position, 1),
                        recorder_.Keep(headers.back().step_id));
  }
  go->Notify();
  for (int64_t position = 0; position < 6; ++position) {
    ASSERT_OK_AND_ASSIGN(const auto row, Await(headers[position]));
    EXPECT_EQ(row, std::vector<float>(whole.begin() + position * kHidden,
                                      whole.begin() + (position + 1) * kHidden));
  }
}

TEST_F(ExpertRunnerTest, TwoPeersMayUseTheSameSequenceIds) {
  Start();
  const uint64_t other = runner_->AddPeer();
  EXPECT_NE(other, peer_);
  ASSERT_OK_AND_ASSIGN(const auto whole, SwapRows(5, 0, 4));
  runner_->HandleRelease(peer_, 5);
  ASSERT_OK(SwapRows(5, 0, 3).status());
  ASSERT_OK(Swap(other, Header({{5, 0, 7, ReturnRows::kNone}}), Rows(77, 0, 7)).status());
  ASSERT_OK_AND_ASSIGN(const auto last, SwapRows(5, 3, 1));
  EXPECT_EQ(last, std::vector<float>(whole.end() - kHidden, whole.end()));
}

TEST_F(ExpertRunnerTest, AnEarlierFirstPositionRecomputesFromThere) {
  Start();
  ASSERT_OK_AND_ASSIGN(const auto first, SwapRows(1, 0, 10));
  ASSERT_OK(Swap(peer_, Header({{1, 10, 2, ReturnRows::kNone}}), Rows(99, 0, 2)).status());
  ASSERT_OK_AND_ASSIGN(const auto again, SwapRows(1, 6, 4));
  EXPECT_EQ(again, std::vector<float>(first.begin() + 6 * kHidden, first.end()));
}

TEST_F(ExpertRunnerTest, ARestartedRunnerAsksForRecomputation) {
  Start();
  ASSERT_OK(SwapRows(1, 0, 5).status());
  Start();
  EXPECT_THAT(SwapRows(1, 5, 1),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("expert math@1: KV of sequence 1: expected 5 tokens")));
  EXPECT_OK(SwapRows(1, 0, 6).status());
}

TEST_F(ExpertRunnerTest, OutOfPagesRefusesTheSwapAloneAndChangesNothing) {
  ExpertRunnerOptions options;
  options.kv_tokens = 16;
  Start(options);
  ASSERT_OK_AND_ASSIGN(const auto whole, SwapRows(1, 0, 8));
  runner_->HandleRelease(peer_, 1);
  ASSERT_OK(SwapRows(1, 0, 7).status());
  const auto go = Block();  // takes a page
  const exchange::StepHeader large = Header({{2, 0, 9, ReturnRows::kAll}});
  const exchange::StepHeader small = Header({{1, 7, 1, ReturnRows::kAll}});
  const uint64_t other = runner_->AddPeer();
  runner_->HandleSwap(other, large, Rows(2, 0, 9), recorder_.Keep(large.step_id));
  runner_->HandleSwap(peer_, small, Rows(1, 7, 1), recorder_.Keep(small.step_id));
  go->Notify();
  EXPECT_THAT(Await(large),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("out of KV pages")));
  ASSERT_OK_AND_ASSIGN(const auto row, Await(small));
  EXPECT_EQ(row, std::vector<float>(whole.end() - kHidden, whole.end()));
  EXPECT_EQ(LoadOf("math").kv_tokens_used, 12);
  EXPECT_EQ(LoadOf("math").kv_tokens_total, 16);
  runner_->HandleRelease(peer_, 1);
  EXPECT_OK(Swap(other, Header({{2, 0, 9, ReturnRows::kAll}}), Rows(2, 0, 9)).status());
}

TEST_F(ExpertRunnerTest, AReleaseFreesTheSequenceAtAllExperts) {
  Start();
  ASSERT_OK(SwapRows(1, 0, 5).status());
  ASSERT_OK(SwapRows(1, 0, 5, "code").status());
  EXPECT_EQ(LoadOf("math").kv_tokens_used, 8);
  runner_->HandleRelease(peer_, 1);
  runner_->HandleRelease(peer_, 1);
  runner_->HandleRelease(peer_, 12345);
  runner_->HandleRelease(77, 1);
  AwaitReleases();
  EXPECT_EQ(LoadOf("math").kv_tokens_used, 0);
  EXPECT_EQ(LoadOf("code").kv_tokens_used, 4);  // the swap that waited for the release
}

TEST_F(ExpertRunnerTest, AReleaseBehindAWaitingSwapTakesEffectAfterIt) {
  Start();
  const auto go = Block();
  const exchange::StepHeader first = Header({{1, 0, 3, ReturnRows::kLast}});
  const exchange::StepHeader second = Header({{1, 3, 1, ReturnRows::kLast}});
  runner_->HandleSwap(peer_, first, Rows(1, 0, 3), recorder_.Keep(first.step_id));
  runner_->HandleRelease(peer_, 1);
  runner_->HandleSwap(peer_, second, Rows(1, 3, 1), recorder_.Keep(second.step_id));
  go->Notify();
  EXPECT_OK(Await(first).status());
  EXPECT_THAT(Await(second), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(ExpertRunnerTest, RemovingAPeerEndsItsSwapsAndFreesItsKv) {
  Start();
  const uint64_t other = runner_->AddPeer();
  ASSERT_OK(Swap(other, Header({{1, 0, 5, ReturnRows::kLast}}), Rows(1, 0, 5)).status());
  const auto go = Block();
  const exchange::StepHeader waiting = Header({{1, 5, 1, ReturnRows::kLast}});
  runner_->HandleSwap(other, waiting, Rows(1, 5, 1), recorder_.Keep(waiting.step_id));
  runner_->RemovePeer(other);
  EXPECT_EQ(recorder_.calls(waiting.step_id), 1);
  EXPECT_THAT(Await(waiting), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(LoadOf("math").kv_tokens_used, 4);  // what Block holds
  EXPECT_THAT(Swap(other, Header({{1, 0, 1, ReturnRows::kLast}}), Rows(1, 0, 1)),
              StatusIs(absl::StatusCode::kUnavailable));
  runner_->RemovePeer(other);
  go->Notify();
}

TEST_F(ExpertRunnerTest, NamesTheExpertsItHoldsWhereOneIsMissing) {
  Start();
  EXPECT_THAT(SwapRows(1, 0, 1, "law"),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("expert law@1 is not on this worker; it holds code@1, "
                                 "math@1")));
  exchange::StepHeader newer = Header({{1, 0, 1, ReturnRows::kLast}});
  newer.expert.version = 2;
  EXPECT_THAT(Swap(peer_, newer, Rows(1, 0, 1)), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(ExpertRunnerTest, RefusesWhatDoesNotFitTheExpertOrTheModel) {
  Start();
  exchange::StepHeader header = Header({{1, 0, 1, ReturnRows::kLast}});
  header.layers = {0, 3};
  EXPECT_THAT(
      Swap(peer_, header, Rows(1, 0, 1)),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected [1, 3), found [0, 3)")));
  header = Header({{1, 0, 2, ReturnRows::kLast}});
  EXPECT_THAT(
      Swap(peer_, header, Rows(1, 0, 1)),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected 64 values, found 32")));
  header = Header({{1, 128, 1, ReturnRows::kLast}});
  EXPECT_THAT(Swap(peer_, header, Rows(1, 0, 1)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at most 128 positions")));
  header = Header({{1, 0, 1, ReturnRows::kLast}});
  header.hidden_size = 16;
  EXPECT_THAT(Swap(peer_, header, Rows(1, 0, 1)), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(ExpertRunnerTest, RefusesBeyondTheWaitingLimit) {
  ExpertRunnerOptions options;
  options.max_waiting_swaps = 2;
  Start(options);
  const auto go = Block();
  std::vector<exchange::StepHeader> headers;
  for (uint64_t id = 1; id <= 3; ++id) {
    headers.push_back(Header({{id, 0, 1, ReturnRows::kLast}}));
    runner_->HandleSwap(peer_, headers.back(), Rows(id, 0, 1),
                        recorder_.Keep(headers.back().step_id));
  }
  EXPECT_THAT(Await(headers[2]),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("2 swaps")));
  go->Notify();
  EXPECT_OK(Await(headers[0]).status());
  EXPECT_OK(Await(headers[1]).status());
}

TEST_F(ExpertRunnerTest, CapturedLayersEndWithTheRowsThemselves) {
  Start();
  exchange::StepHeader header = Header({{1, 0, 3, ReturnRows::kAll}});
  header.capture_layers = true;
  ASSERT_OK(Swap(peer_, header, Rows(1, 0, 3)).status());
  ASSERT_OK_AND_ASSIGN(const SwapResult result, recorder_.Await(header.step_id));
  ASSERT_EQ(result.captured.size(), 2 * 3 * kHidden);
  EXPECT_EQ(std::vector<float>(result.captured.begin() + 3 * kHidden, result.captured.end()),
            result.rows);
}

TEST_F(ExpertRunnerTest, ExpertsHaveWeightsOfTheirOwnAndAreLoadedOnce) {
  Start();
  ASSERT_OK_AND_ASSIGN(const auto math, SwapRows(1, 0, 3));
  ASSERT_OK_AND_ASSIGN(const auto code, SwapRows(1, 0, 3, "code"));
  EXPECT_NE(math, code);
  EXPECT_THAT(runner_->AddExpert(math_),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("math@1")));
  EXPECT_EQ(LoadOf("math").swaps, 1);
  EXPECT_EQ(LoadOf("math").rows, 3);
  EXPECT_GT(LoadOf("math").weight_bytes, 4 * 2 * (32 * 32 * 2 + 48 * 32 * 3));
  EXPECT_EQ(runner_->hidden_size(), kHidden);
}

TEST_F(ExpertRunnerTest, RefusesABundleThatIsNotWholeAndOptionsThatMakeNoSense) {
  Start();
  Bundle wrong = math_;
  wrong.manifest.expert = {"wrong", 1};
  wrong.manifest.layers = {0, 3};
  EXPECT_THAT(runner_->AddExpert(wrong),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("expert wrong@1")));
  ExpertRunnerOptions options;
  options.page_tokens = 0;
  EXPECT_THAT(ExpertRunner::Create(TinySpec(), kernels::MakeCpuOps(&team_), options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("page_tokens")));
}

TEST_F(ExpertRunnerTest, DestructionEndsWhatWaits) {
  Start();
  const auto go = Block();
  const exchange::StepHeader header = Header({{1, 0, 1, ReturnRows::kLast}});
  runner_->HandleSwap(peer_, header, Rows(1, 0, 1), recorder_.Keep(header.step_id));
  go->Notify();
  runner_.reset();
  EXPECT_EQ(recorder_.calls(header.step_id), 1);
}

TEST_F(ExpertRunnerTest, ALinkToItGivesTheSameRows) {
  Start();
  ASSERT_OK_AND_ASSIGN(const auto direct, SwapRows(1, 0, 9));
  const std::unique_ptr<exchange::ActivationLink> link = exchange::MakeLocalLink(runner_.get());
  const exchange::StepHeader header = Header({{1, 0, 9, ReturnRows::kAll}});
  recorder_.Send(*link, header, Rows(1, 0, 9));
  ASSERT_OK_AND_ASSIGN(const auto linked, Await(header));
  EXPECT_EQ(linked, direct);
}

TEST_F(ExpertRunnerTest, ADispatchToFfnExpertsIsRefused) {
  Start();
  const exchange::StepHeader header = exchange::MakeDispatch(++step_, {{0}}, kHidden);
  EXPECT_THAT(Swap(peer_, header, Rows(1, 0, 1)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("found a dispatch to FFN experts")));
}

}  // namespace
}  // namespace ccoe::experts
