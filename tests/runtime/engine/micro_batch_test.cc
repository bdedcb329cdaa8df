// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/micro_batch.h"

#include <memory>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/fake_link.h"
#include "tests/testing/recording_sink.h"
#include "tests/testing/test_sequence.h"

namespace ccoe::engine {
namespace {

using ::ccoe::testing::AnswerRecorder;
using ::ccoe::testing::FakeLink;
using ::ccoe::testing::kTestTime;
using ::ccoe::testing::TestBinding;
using ::ccoe::testing::TestInit;
using ::ccoe::testing::TestSequence;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class MicroBatchTest : public ::testing::Test {
 protected:
  StepEntry Entry(uint64_t handle, int64_t rows,
                  std::shared_ptr<const ExpertBinding> binding = nullptr) {
    StepEntry entry;
    entry.sequence = TestSequence(handle, 10, recorder_, std::move(binding));
    entry.sequence->Admit(100 + handle, kTestTime);
    entry.row_count = rows;
    return entry;
  }

  AnswerRecorder recorder_;
  std::shared_ptr<FakeLink> link_ = std::make_shared<FakeLink>();
};

TEST_F(MicroBatchTest, AMicroBatchStopsAtTheNextExpertsFirstLayer) {
  MicroBatch micro;
  micro.entries = {Entry(1, 1), Entry(2, 1, TestBinding("a", {6, 8}, link_)),
                   Entry(3, 1, TestBinding("b", {4, 8}, link_))};
  EXPECT_EQ(NextBoundary(micro, 8), 4);
  micro.cursor = 5;
  EXPECT_EQ(NextBoundary(micro, 8), 6);
  micro.cursor = 7;  // the experts are behind
  EXPECT_EQ(NextBoundary(micro, 8), 8);
}

TEST_F(MicroBatchTest, EntriesOfOneExpertLeaveTogetherWhateverBindingObjectTheyHold) {
  MicroBatch micro;
  micro.cursor = 4;
  micro.entries = {Entry(1, 2, TestBinding("a", {4, 8}, link_)), Entry(2, 1),
                   Entry(3, 3, TestBinding("b", {4, 8}, link_)),
                   Entry(4, 1, TestBinding("a", {4, 8}, link_)),
                   Entry(5, 1, TestBinding("c", {6, 8}, link_))};
  const std::vector<LeavingGroup> groups = GroupsLeaving(micro);
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].binding->expert.name, "a");
  EXPECT_THAT(groups[0].entries, ElementsAre(0, 3));
  EXPECT_THAT(groups[1].entries, ElementsAre(2));
  EXPECT_THAT(RowsOf(micro, groups[0].entries), ElementsAre(0, 1, 6));
  EXPECT_THAT(RowsOf(micro, groups[1].entries), ElementsAre(3, 4, 5));
  EXPECT_THAT(Staying(micro, groups), ElementsAre(1, 4));
  KeepEntries(micro, Staying(micro, groups));
  ASSERT_EQ(micro.entries.size(), 2u);
  EXPECT_EQ(micro.entries[1].sequence->handle(), 5u);
}

TEST_F(MicroBatchTest, OtherLinksAndWishesForHiddenStatesMakeOtherGroups) {
  MicroBatch micro;
  micro.cursor = 4;
  micro.entries = {Entry(1, 1, TestBinding("a", {4, 8}, link_)),
                   Entry(2, 1, TestBinding("a", {4, 8}, std::make_shared<FakeLink>())),
                   Entry(3, 1, TestBinding("a", {4, 8}, link_))};
  micro.entries[2].hidden.resize(9);
  const std::vector<LeavingGroup> groups = GroupsLeaving(micro);
  ASSERT_EQ(groups.size(), 3u);
  EXPECT_FALSE(groups[0].capture);
  EXPECT_TRUE(groups[2].capture);
}

TEST_F(MicroBatchTest, NothingLeavesAtTheEnd) {
  MicroBatch micro;
  micro.cursor = 8;
  micro.entries = {Entry(1, 1), Entry(2, 1, TestBinding("a", {4, 6}, link_))};
  EXPECT_THAT(GroupsLeaving(micro), IsEmpty());
}

TEST_F(MicroBatchTest, TheBatchCountsRowsWithoutGaps) {
  MicroBatch micro;
  micro.entries = {Entry(1, 2), Entry(2, 3)};
  micro.entries[1].first_position = 4;
  micro.entries[1].sequence->pages() = {9, 8};
  const model::RowBatch batch = BatchOf(micro);
  EXPECT_EQ(batch.rows(), 5);
  EXPECT_EQ(batch.sequences[1].row_begin, 2);
  EXPECT_EQ(batch.sequences[1].first_position, 4);
  EXPECT_THAT(batch.sequences[1].block_table, ElementsAre(9, 8));
  micro.entries[1].sequence->pages().clear();
}

TEST_F(MicroBatchTest, OnlyTheRowsThatAreNeededComeBack) {
  StepEntry middle = Entry(1, 4);  // of a prompt of ten
  EXPECT_EQ(RowsWanted(middle, {4, 8}, 8), exchange::ReturnRows::kNone);
  EXPECT_EQ(RowsWanted(middle, {4, 6}, 8), exchange::ReturnRows::kAll);  // layers follow
  StepEntry end = Entry(2, 10);
  EXPECT_EQ(RowsWanted(end, {4, 8}, 8), exchange::ReturnRows::kLast);
  SequenceInit scoring = TestInit(3, 10, recorder_, 0);
  scoring.query.prompt_logits = true;
  end.sequence = std::make_shared<Sequence>(std::move(scoring));
  EXPECT_EQ(RowsWanted(end, {4, 8}, 8), exchange::ReturnRows::kAll);
  end.sequence->EmitLogits(0, 10, {});
  EXPECT_EQ(RowsWanted(end, {4, 8}, 8),
            exchange::ReturnRows::kNone);  // had them, generates nothing
}

TEST_F(MicroBatchTest, TheHeaderNamesTheIncarnationAndThePositions) {
  const auto binding = TestBinding("a", {4, 8}, link_);
  std::vector<StepEntry> entries = {Entry(1, 10, binding), Entry(2, 3, binding)};
  entries[1].first_position = 2;
  const exchange::LayerSwap header = LayerSwapFor(*binding, entries, 8);
  EXPECT_EQ(header.expert.ToString(), "a@1");
  EXPECT_EQ(header.sequences[0].sequence_id, 101u);
  EXPECT_EQ(header.sequences[1].first_position, 2);
  EXPECT_EQ(header.sequences[1].row_count, 3);
  EXPECT_EQ(header.rows(), 13);
  EXPECT_EQ(header.returned_rows(), 1);
  EXPECT_FALSE(header.capture_layers);
}

}  // namespace
}  // namespace ccoe::engine
