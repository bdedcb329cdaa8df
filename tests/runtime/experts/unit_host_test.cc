// SPDX-License-Identifier: Apache-2.0
// Layer experts, and what concerns both kinds; FFN experts are in unit_host_ffn_test.cc.
#include "runtime/experts/unit_host.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/experts/host_fixture.h"
#include "tests/runtime/experts/tiny_expert.h"

namespace ccoe::experts {
namespace {

using ::ccoe::testing::StatusIs;
using exchange::ReasonOf;
using exchange::ReturnRows;
using exchange::SwapHeader;
using exchange::SwapReason;
using exchange::SwapResult;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int64_t kHidden = 32;

class UnitHostTest : public HostTest {
 protected:
  // A host with the experts "math" and "code".
  void Start(UnitHostOptions options = {}) {
    options.page_tokens = 4;
    StartHost(TinySpec(), options);
    if (math_.weights == nullptr) {
      math_ = experts_.Make("math", 1);
      code_ = experts_.Make("code", 2);
    }
    ASSERT_OK(host_->AddExpert(math_));
    ASSERT_OK(host_->AddExpert(code_));
  }

  SwapHeader Header(std::vector<exchange::SwapSequence> sequences,
                    const std::string& expert = "math") {
    return LayerHeader(++last_id_, std::move(sequences), expert);
  }

  // Rows [first, first + count) of the sequence whose hidden states follow from `seed`.
  static std::vector<float> RowsOf(uint32_t seed, int64_t first, int64_t count) {
    const std::vector<float> all = TinyRows(64, seed);
    return std::vector<float>(all.begin() + first * kHidden,
                              all.begin() + (first + count) * kHidden);
  }

  absl::StatusOr<std::vector<float>> SwapRows(uint64_t peer, const SwapHeader& header,
                                              std::vector<float> rows) {
    Send(peer, header, std::move(rows));
    return Rows(header.id);
  }
  // Rows [first, first + count) of sequence `id`, alone, all coming back.
  absl::StatusOr<std::vector<float>> SwapRows(uint64_t id, int64_t first, int64_t count,
                                              const std::string& expert = "math") {
    return SwapRows(peer_, Header({{id, first, count, ReturnRows::kAll}}, expert),
                    RowsOf(id, first, count));
  }
  // The same, sent only; the swap's id.
  uint64_t SendRows(uint64_t id, int64_t first, int64_t count, const std::string& expert = "math") {
    const SwapHeader header = Header({{id, first, count, ReturnRows::kAll}}, expert);
    Send(peer_, header, RowsOf(id, first, count));
    return header.id;
  }

  std::shared_ptr<absl::Notification> Block() {
    return HostTest::Block(Header({{9999, 0, 1, ReturnRows::kNone}}), RowsOf(1, 0, 1));
  }

  ExpertLoad LoadOf(const std::string& name) {
    for (const ExpertLoad& load : host_->Load().experts) {
      if (load.expert.name == name) return load;
    }
    return {};
  }

  TinyExperts experts_;
  Bundle math_, code_;
};

TEST_F(UnitHostTest, ManySequencesAtOnceEqualOneByOneBitForBit) {
  Start();
  constexpr int kSequences = 9;
  std::vector<std::vector<float>> alone;
  for (uint64_t id = 1; id <= kSequences; ++id) {
    ASSERT_OK_AND_ASSIGN(auto rows, SwapRows(id, 0, 3 + static_cast<int64_t>(id)));
    alone.push_back(std::move(rows));
    host_->HandleRelease(peer_, id);
  }
  std::vector<exchange::SwapSequence> sequences;
  std::vector<float> rows, expected;
  for (uint64_t id = 1; id <= kSequences; ++id) {
    const int64_t count = 3 + static_cast<int64_t>(id);
    const ReturnRows back = id % 3 == 0   ? ReturnRows::kNone
                            : id % 3 == 1 ? ReturnRows::kLast
                                          : ReturnRows::kAll;
    sequences.push_back({id, 0, count, back});
    const std::vector<float> own = RowsOf(id, 0, count);
    rows.insert(rows.end(), own.begin(), own.end());
    const int64_t skipped = (count - sequences.back().returned()) * kHidden;
    expected.insert(expected.end(), alone[id - 1].begin() + skipped, alone[id - 1].end());
  }
  ASSERT_OK_AND_ASSIGN(const auto together, SwapRows(peer_, Header(sequences), rows));
  EXPECT_EQ(together, expected);
}

TEST_F(UnitHostTest, WaitingSwapsOfOneExpertAreMergedAndEqualThoseAlone) {
  Start();
  std::vector<std::vector<float>> alone;
  for (uint64_t id = 1; id <= 6; ++id) {
    ASSERT_OK_AND_ASSIGN(auto rows, SwapRows(id, 0, 5, id % 2 == 0 ? "math" : "code"));
    alone.push_back(std::move(rows));
    host_->HandleRelease(peer_, id);
  }
  const auto go = Block();
  const int64_t batches = LoadOf("math").batches + LoadOf("code").batches;
  const uint64_t other = host_->AddPeer();
  std::vector<SwapHeader> headers;
  for (uint64_t id = 1; id <= 6; ++id) {
    headers.push_back(Header({{id, 0, 5, ReturnRows::kAll}}, id % 2 == 0 ? "math" : "code"));
    Send(id <= 3 ? peer_ : other, headers.back(), RowsOf(id, 0, 5));
  }
  EXPECT_EQ(LoadOf("math").waiting_rows, 15);
  go->Notify();
  for (uint64_t id = 1; id <= 6; ++id) {
    ASSERT_OK_AND_ASSIGN(const auto rows, Rows(headers[id - 1].id));
    EXPECT_EQ(rows, alone[id - 1]) << id;
  }
  EXPECT_EQ(LoadOf("math").batches + LoadOf("code").batches, batches + 2);
}

TEST_F(UnitHostTest, AnyCutIntoChunksGivesTheSameRows) {
  Start();
  ASSERT_OK_AND_ASSIGN(const auto whole, SwapRows(1, 0, 11));
  host_->HandleRelease(peer_, 1);
  std::vector<float> pieces;
  int64_t first = 0;
  for (const int64_t count : {1, 4, 2, 3, 1}) {
    ASSERT_OK_AND_ASSIGN(const auto piece, SwapRows(1, first, count));
    pieces.insert(pieces.end(), piece.begin(), piece.end());
    first += count;
  }
  EXPECT_EQ(pieces, whole);
}

TEST_F(UnitHostTest, StepsOfASequenceQueuedTogetherRunInOrder) {
  Start();
  ASSERT_OK_AND_ASSIGN(const auto whole, SwapRows(1, 0, 6));
  host_->HandleRelease(peer_, 1);
  const auto go = Block();
  std::vector<uint64_t> ids;
  for (int64_t position = 0; position < 6; ++position) ids.push_back(SendRows(1, position, 1));
  go->Notify();
  for (int64_t position = 0; position < 6; ++position) {
    ASSERT_OK_AND_ASSIGN(const auto row, Rows(ids[position]));
    EXPECT_EQ(row, std::vector<float>(whole.begin() + position * kHidden,
                                      whole.begin() + (position + 1) * kHidden));
  }
}

TEST_F(UnitHostTest, TwoPeersMayUseTheSameSequenceIds) {
  Start();
  const uint64_t other = host_->AddPeer();
  EXPECT_NE(other, peer_);
  ASSERT_OK_AND_ASSIGN(const auto whole, SwapRows(5, 0, 4));
  host_->HandleRelease(peer_, 5);
  ASSERT_OK(SwapRows(5, 0, 3).status());
  ASSERT_OK(SwapRows(other, Header({{5, 0, 7, ReturnRows::kNone}}), RowsOf(77, 0, 7)).status());
  ASSERT_OK_AND_ASSIGN(const auto last, SwapRows(5, 3, 1));
  EXPECT_EQ(last, std::vector<float>(whole.end() - kHidden, whole.end()));
}

TEST_F(UnitHostTest, AnEarlierFirstPositionRecomputesFromThere) {
  Start();
  ASSERT_OK_AND_ASSIGN(const auto first, SwapRows(1, 0, 10));
  ASSERT_OK(SwapRows(peer_, Header({{1, 10, 2, ReturnRows::kNone}}), RowsOf(99, 0, 2)).status());
  ASSERT_OK_AND_ASSIGN(const auto again, SwapRows(1, 6, 4));
  EXPECT_EQ(again, std::vector<float>(first.begin() + 6 * kHidden, first.end()));
}

TEST_F(UnitHostTest, ARestartedHostAsksForRecomputation) {
  Start();
  ASSERT_OK(SwapRows(1, 0, 5).status());
  Start();
  const absl::Status lost = SwapRows(1, 5, 1).status();
  EXPECT_EQ(ReasonOf(lost), SwapReason::kKvLost);
  EXPECT_THAT(std::string(lost.message()),
              HasSubstr("expert math@1: KV of sequence 1: expected 5 tokens"));
  EXPECT_OK(SwapRows(1, 0, 6).status());
}

TEST_F(UnitHostTest, OneSequenceThatIsTooLongIsLeftOutAndTheMergedPassRuns) {
  UnitHostOptions options;
  options.kv_tokens = 32;
  Start(options);
  ASSERT_OK_AND_ASSIGN(const auto first, SwapRows(1, 0, 5));
  ASSERT_OK_AND_ASSIGN(const auto second, SwapRows(2, 0, 4));
  host_->HandleRelease(peer_, 1);
  host_->HandleRelease(peer_, 2);
  const auto go = Block();
  const SwapHeader mixed = Header({{3, 0, 33, ReturnRows::kAll}, {1, 0, 5, ReturnRows::kAll}});
  std::vector<float> rows = RowsOf(3, 0, 33);
  const std::vector<float> own = RowsOf(1, 0, 5);
  rows.insert(rows.end(), own.begin(), own.end());
  Send(peer_, mixed, rows);
  const uint64_t merged = SendRows(2, 0, 4);
  go->Notify();
  ASSERT_OK_AND_ASSIGN(const SwapResult result, answers_.Await(mixed.id));
  ASSERT_THAT(result.verdicts, SizeIs(2));
  EXPECT_EQ(ReasonOf(result.verdicts[0]), SwapReason::kTooLong);
  EXPECT_OK(result.verdicts[1]);
  EXPECT_EQ(result.rows, first);
  EXPECT_OK(exchange::CheckResult(mixed, result));
  ASSERT_OK_AND_ASSIGN(const auto other, Rows(merged));
  EXPECT_EQ(other, second);
}

TEST_F(UnitHostTest, OutOfPagesLeavesOutThatSequenceAloneAndChangesNothing) {
  UnitHostOptions options;
  options.kv_tokens = 16;
  Start(options);
  ASSERT_OK_AND_ASSIGN(const auto whole, SwapRows(1, 0, 8));
  host_->HandleRelease(peer_, 1);
  ASSERT_OK(SwapRows(1, 0, 7).status());
  const auto go = Block();  // takes a page
  const SwapHeader large = Header({{2, 0, 9, ReturnRows::kAll}});
  const uint64_t other = host_->AddPeer();
  Send(other, large, RowsOf(2, 0, 9));
  const uint64_t small = SendRows(1, 7, 1);
  go->Notify();
  EXPECT_EQ(Reason(large.id), SwapReason::kNoPages);
  EXPECT_THAT(std::string(Rows(large.id).status().message()), HasSubstr("out of KV pages"));
  ASSERT_OK_AND_ASSIGN(const auto row, Rows(small));
  EXPECT_EQ(row, std::vector<float>(whole.end() - kHidden, whole.end()));
  EXPECT_EQ(LoadOf("math").kv_tokens_used, 12);
  EXPECT_EQ(LoadOf("math").kv_tokens_total, 16);
  host_->HandleRelease(peer_, 1);
  EXPECT_OK(SwapRows(other, Header({{2, 0, 9, ReturnRows::kAll}}), RowsOf(2, 0, 9)).status());
}

TEST_F(UnitHostTest, AReleaseFreesTheSequenceAtAllExpertsAtOnce) {
  Start();
  ASSERT_OK(SwapRows(1, 0, 5).status());
  ASSERT_OK(SwapRows(1, 0, 5, "code").status());
  EXPECT_EQ(LoadOf("math").kv_tokens_used, 8);
  host_->HandleRelease(peer_, 1);
  host_->HandleRelease(peer_, 1);
  host_->HandleRelease(peer_, 12345);
  host_->HandleRelease(77, 1);
  EXPECT_EQ(LoadOf("math").kv_tokens_used, 0);
  EXPECT_EQ(LoadOf("code").kv_tokens_used, 0);
}

TEST_F(UnitHostTest, AReleaseTakesTheSequencesRowsOutOfWhatWaits) {
  Start();
  ASSERT_OK_AND_ASSIGN(const auto expected, SwapRows(2, 0, 4));
  host_->HandleRelease(peer_, 2);
  const auto go = Block();
  const int64_t rows_before = LoadOf("math").rows;
  const SwapHeader both = Header({{1, 0, 3, ReturnRows::kAll}, {2, 0, 4, ReturnRows::kAll}});
  std::vector<float> rows = RowsOf(1, 0, 3);
  const std::vector<float> own = RowsOf(2, 0, 4);
  rows.insert(rows.end(), own.begin(), own.end());
  Send(peer_, both, rows);
  const uint64_t alone = SendRows(1, 3, 1);
  host_->HandleRelease(peer_, 1);
  EXPECT_EQ(answers_.calls(alone), 1);  // answered at once
  EXPECT_EQ(Reason(alone), SwapReason::kCancelled);
  const uint64_t later = SendRows(1, 4, 1);  // after the release: it holds nothing
  go->Notify();
  ASSERT_OK_AND_ASSIGN(const SwapResult result, answers_.Await(both.id));
  EXPECT_EQ(ReasonOf(result.verdicts[0]), SwapReason::kCancelled);
  EXPECT_OK(result.verdicts[1]);
  EXPECT_EQ(result.rows, expected);
  EXPECT_EQ(Reason(later), SwapReason::kKvLost);
  EXPECT_EQ(LoadOf("math").rows, rows_before + 4);
  EXPECT_EQ(LoadOf("math").kv_tokens_used, 4 + 4);  // sequence 2, and what Block holds
}

TEST_F(UnitHostTest, CancelledSwapsAreAnsweredAtOnceAndNeverComputed) {
  Start();
  const auto go = Block();
  const int64_t swaps = LoadOf("math").swaps;
  const uint64_t cancelled = SendRows(1, 0, 3), kept = SendRows(2, 0, 3);
  host_->HandleCancel(host_->AddPeer(), {kept});  // not that peer's
  host_->HandleCancel(peer_, {cancelled, 12345});
  EXPECT_EQ(answers_.calls(cancelled), 1);
  EXPECT_EQ(Reason(cancelled), SwapReason::kCancelled);
  go->Notify();
  EXPECT_OK(Rows(kept).status());
  host_->HandleCancel(peer_, {kept});  // over: nothing happens
  EXPECT_EQ(LoadOf("math").swaps, swaps + 1);
  EXPECT_EQ(answers_.calls(kept), 1);
}

TEST_F(UnitHostTest, RemovingAPeerEndsItsSwapsAndFreesItsKv) {
  Start();
  const uint64_t other = host_->AddPeer();
  ASSERT_OK(SwapRows(other, Header({{1, 0, 5, ReturnRows::kLast}}), RowsOf(1, 0, 5)).status());
  const auto go = Block();
  const SwapHeader waiting = Header({{1, 5, 1, ReturnRows::kLast}});
  Send(other, waiting, RowsOf(1, 5, 1));
  host_->RemovePeer(other);
  EXPECT_EQ(answers_.calls(waiting.id), 1);
  EXPECT_EQ(Reason(waiting.id), SwapReason::kLinkBroken);
  EXPECT_EQ(LoadOf("math").kv_tokens_used, 4);  // what Block holds
  const SwapHeader late = Header({{1, 0, 1, ReturnRows::kLast}});
  Send(other, late, RowsOf(1, 0, 1));
  EXPECT_EQ(Reason(late.id), SwapReason::kLinkBroken);
  host_->RemovePeer(other);
  go->Notify();
}

TEST_F(UnitHostTest, RefusesBeyondTheWaitingLimit) {
  UnitHostOptions options;
  options.max_waiting_swaps = 2;
  Start(options);
  const auto go = Block();
  std::vector<uint64_t> ids;
  for (uint64_t id = 1; id <= 3; ++id) ids.push_back(SendRows(id, 0, 1));
  EXPECT_EQ(Reason(ids[2]), SwapReason::kQueueFull);
  EXPECT_EQ(host_->Load().waiting_swaps, 2);
  EXPECT_GE(host_->Load().waiting_bytes, 2 * kHidden * 4);
  go->Notify();
  EXPECT_OK(Rows(ids[0]).status());
  EXPECT_OK(Rows(ids[1]).status());
}

TEST_F(UnitHostTest, CapturedLayersEndWithTheRowsThemselves) {
  Start();
  SwapHeader header = Header({{1, 0, 3, ReturnRows::kAll}});
  std::get<exchange::LayerSwap>(header.work).capture_layers = true;
  ASSERT_OK_AND_ASSIGN(const SwapResult result, Swap(peer_, header, RowsOf(1, 0, 3)));
  ASSERT_EQ(result.captured.size(), 2 * 3 * kHidden);
  EXPECT_EQ(std::vector<float>(result.captured.begin() + 3 * kHidden, result.captured.end()),
            result.rows);
}

TEST_F(UnitHostTest, ExpertsHaveWeightsOfTheirOwnAndAreLoadedOnce) {
  Start();
  ASSERT_OK_AND_ASSIGN(const auto math, SwapRows(1, 0, 3));
  ASSERT_OK_AND_ASSIGN(const auto code, SwapRows(1, 0, 3, "code"));
  EXPECT_NE(math, code);
  EXPECT_THAT(host_->AddExpert(math_),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("math@1")));
  EXPECT_EQ(LoadOf("math").swaps, 1);
  EXPECT_EQ(LoadOf("math").rows, 3);
  EXPECT_GT(LoadOf("math").weight_bytes, 4 * 2 * (32 * 32 * 2 + 48 * 32 * 3));
  EXPECT_EQ(host_->hidden_size(), kHidden);
  EXPECT_EQ(host_->device(), &kernels::CpuDevice());
}

TEST_F(UnitHostTest, ExpertsComeAndGoWhileItServes) {
  Start();
  ASSERT_OK_AND_ASSIGN(const auto expected, SwapRows(1, 0, 5));
  ASSERT_OK(host_->RemoveExpert({"code", 1}));
  EXPECT_THAT(host_->RemoveExpert({"code", 1}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("it holds math@1")));
  const auto go = Block();
  const uint64_t waiting = SendRows(2, 0, 3);
  ASSERT_OK(host_->RemoveExpert({"math", 1}));
  EXPECT_EQ(answers_.calls(waiting), 1);
  EXPECT_EQ(Reason(waiting), SwapReason::kUnknownExpert);
  EXPECT_THAT(host_->Load().experts, IsEmpty());
  const uint64_t late = SendRows(3, 0, 3);
  EXPECT_EQ(Reason(late), SwapReason::kUnknownExpert);
  ASSERT_OK(host_->AddExpert(math_));
  go->Notify();
  // Another handle: its KV is empty, its results are the same.
  EXPECT_EQ(ReasonOf(SwapRows(1, 5, 1).status()), SwapReason::kKvLost);
  ASSERT_OK_AND_ASSIGN(const auto again, SwapRows(1, 0, 5));
  EXPECT_EQ(again, expected);
}

TEST_F(UnitHostTest, DestructionEndsWhatWaits) {
  Start();
  const auto go = Block();
  const uint64_t waiting = SendRows(1, 0, 1);
  go->Notify();
  host_.reset();
  EXPECT_EQ(answers_.calls(waiting), 1);
}

}  // namespace
}  // namespace ccoe::experts
