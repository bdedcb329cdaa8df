// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/remote_layers.h"

#include <memory>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "runtime/base/parallel.h"
#include "tests/testing/engine_cluster.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/fake_link.h"
#include "tests/testing/recording_sink.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_sequence.h"

namespace ccoe::engine {
namespace {

using ::ccoe::testing::AnswerRecorder;
using ::ccoe::testing::FakeLink;
using ::ccoe::testing::GoldenBackbone;
using ::ccoe::testing::kTestTime;
using ::ccoe::testing::StatusIs;
using ::ccoe::testing::TestBinding;
using ::ccoe::testing::TestSequence;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Three prompts of 2, 1 and 3 tokens before layer 4: the first stays, the others go to math@1 of
// layers [4, 8). All values of row r are r.
class RemoteLayersTest : public ::testing::Test {
 protected:
  void SetUp() override {
    options_.clock = &clock_;
    options_.wire_dtype = kernels::DType::kF32;
    ASSERT_OK_AND_ASSIGN(BackboneModel model, GoldenBackbone("ccoe/backbone"));
    ASSERT_OK_AND_ASSIGN(runner_,
                         ModelRunner::Create(std::move(model), kernels::MakeCpuOps(&team_), 4, 4));
    width_ = runner_->hidden_size();
    in_flight_ = std::make_unique<InFlightTable>(options_, queue_);
    recovery_ = std::make_unique<Recovery>(options_, &table_, nullptr);
    layers_ = std::make_unique<RemoteLayers>(
        options_, RemoteLayers::Parts{runner_.get(), in_flight_.get(), recovery_.get()});

    batch_.step = std::make_shared<Step>();
    batch_.cursor = 4;
    batch_.head = runner_->model().head.get();
    std::vector<float> rows;
    for (const int64_t count : {2, 1, 3}) {
      const uint64_t handle = batch_.entries.size() + 1;
      StepEntry& entry = batch_.entries.emplace_back();
      entry.sequence =
          TestSequence(handle, count, recorders_[handle - 1], handle == 1 ? nullptr : binding_);
      entry.row_count = count;
      table_.Enqueue(entry.sequence);
      table_.Admit(handle, kTestTime);
      table_.BeginStep(*entry.sequence, count);
      for (int64_t r = 0; r < count; ++r) rows.insert(rows.end(), width_, rows.size() / width_);
    }
    ASSERT_OK(runner_->Load(rows));
  }

  absl::Status Send() { return layers_->SendAway(batch_, GroupsLeaving(batch_)); }
  SwapAnswer NextAnswer() {
    RequestQueue::Events events = queue_->Take(absl::InfiniteDuration());
    return std::move(events.answers.at(0));
  }
  RemoteLayers::Landed Land(uint64_t swap_id, absl::StatusOr<exchange::SwapResult> result) {
    const auto landing = in_flight_->Land(swap_id);
    EXPECT_TRUE(landing.has_value());
    return layers_->Land(*landing, std::move(result));
  }
  // Rows of these values, one each.
  std::vector<float> Rows(const std::vector<float>& values) const {
    std::vector<float> rows;
    for (const float value : values) rows.insert(rows.end(), width_, value);
    return rows;
  }

  testing::FakeClock clock_;  // at kTestTime
  EngineOptions options_;
  ThreadTeam team_{1};
  std::vector<AnswerRecorder> recorders_ = std::vector<AnswerRecorder>(3);
  std::shared_ptr<FakeLink> link_ = std::make_shared<FakeLink>();
  std::shared_ptr<const ExpertBinding> binding_ = TestBinding("math", {4, 8}, link_);
  std::shared_ptr<RequestQueue> queue_ = std::make_shared<RequestQueue>(4, 1);
  SequenceTable table_{64, 4, nullptr};
  int64_t width_ = 0;
  std::unique_ptr<ModelRunner> runner_;
  std::unique_ptr<InFlightTable> in_flight_;
  std::unique_ptr<Recovery> recovery_;
  std::unique_ptr<RemoteLayers> layers_;
  MicroBatch batch_;
};

TEST_F(RemoteLayersTest, RowsGoToTheirExpertAndTheOthersStay) {
  ASSERT_OK(Send());
  ASSERT_THAT(batch_.entries, SizeIs(1));
  EXPECT_FALSE(batch_.away());
  EXPECT_FALSE(batch_.entries[0].sequence->swapped);
  std::vector<float> kept;
  ASSERT_OK(runner_->Read(std::vector<int32_t>{0, 1}, kept));
  EXPECT_EQ(kept, Rows({0, 1}));

  // The link answers with the last row of each sequence.
  SwapAnswer answer = NextAnswer();
  const RemoteLayers::Landed landed = Land(answer.swap_id, std::move(answer.result));
  EXPECT_EQ(landed.batch.cursor, 8);
  ASSERT_THAT(landed.batch.entries, SizeIs(2));
  EXPECT_TRUE(landed.batch.entries[0].sequence->swapped);
  EXPECT_EQ(landed.returned, 2);
  EXPECT_THAT(landed.rows.at(0).host(), ElementsAreArray(Rows({2, 5})));
  EXPECT_EQ(landed.held[1].begin, 1);
  EXPECT_EQ(landed.held[1].count, 1);
  EXPECT_THAT(landed.bindings, ElementsAre(binding_));
  EXPECT_TRUE(in_flight_->empty());
}

TEST_F(RemoteLayersTest, ABatchThatLeavesWholeIsAway) {
  ASSERT_OK(runner_->Keep(std::vector<int32_t>{2, 3, 4, 5}));
  batch_.entries.erase(batch_.entries.begin());
  ASSERT_OK(Send());
  EXPECT_TRUE(batch_.away());
  EXPECT_THAT(batch_.entries, IsEmpty());
}

TEST_F(RemoteLayersTest, AGroupIsCutWhereTheLinkMayCarryLess) {
  exchange::LinkBounds bounds;
  bounds.max_rows = 3;
  link_->SetBounds(bounds);
  ASSERT_OK(Send());
  const auto headers = link_->headers();
  ASSERT_THAT(headers, SizeIs(2));
  EXPECT_EQ(headers[0].rows(), 1);
  EXPECT_EQ(headers[1].rows(), 3);
  EXPECT_EQ(batch_.step->flights, 2);
}

TEST_F(RemoteLayersTest, AnswersOfOneStepRunOnTogether) {
  exchange::LinkBounds bounds;
  bounds.max_rows = 3;
  link_->SetBounds(bounds);
  link_->Hold();
  ASSERT_OK(Send());
  const auto headers = link_->headers();
  ASSERT_THAT(headers, SizeIs(2));
  std::vector<RemoteLayers::Landed> landed;
  for (const size_t i : {0, 1}) {
    exchange::SwapResult result;
    result.rows = Rows({static_cast<float>(i)});
    landed.push_back(Land(headers[i].id, std::move(result)));
  }
  landed.push_back({});  // of another step, nothing computed
  landed.back().batch.step = std::make_shared<Step>();
  const std::vector<RemoteLayers::Landed> joined = RemoteLayers::Join(std::move(landed));
  ASSERT_THAT(joined, SizeIs(2));
  EXPECT_EQ(joined[0].batch.step, batch_.step);
  EXPECT_EQ(joined[0].returned, 2);
  ASSERT_THAT(joined[0].batch.entries, SizeIs(2));
  EXPECT_EQ(joined[0].batch.entries[1].sequence->handle(), 3u);
  EXPECT_EQ(joined[0].held[0].begin, 0);
  EXPECT_EQ(joined[0].held[1].begin, 1);
  ASSERT_OK(runner_->Load(joined[0].rows));
  std::vector<float> rows;
  ASSERT_OK(runner_->Read(std::vector<int32_t>{0, 1}, rows));
  EXPECT_EQ(rows, Rows({0, 1}));
  EXPECT_THAT(joined[1].batch.entries, IsEmpty());
}

TEST_F(RemoteLayersTest, RowsBehindOtherLayersOrForAnotherHeadRunAlone) {
  std::vector<RemoteLayers::Landed> landed(3);
  for (RemoteLayers::Landed& one : landed) {
    one.batch.step = batch_.step;
    one.batch.cursor = 8;
    one.batch.head = batch_.head;
  }
  landed[1].batch.cursor = 6;
  landed[2].batch.head = nullptr;
  EXPECT_THAT(RemoteLayers::Join(std::move(landed)), SizeIs(3));
}

TEST_F(RemoteLayersTest, OneSequencesFailureIsItsOwn) {
  link_->Hold();
  ASSERT_OK(Send());
  exchange::SwapResult result;
  result.rows = Rows({7});
  result.verdicts = {exchange::SwapError(exchange::SwapReason::kTooLong, "too long"),
                     absl::OkStatus()};
  const RemoteLayers::Landed landed = Land(link_->headers()[0].id, std::move(result));
  ASSERT_THAT(landed.batch.entries, SizeIs(1));
  EXPECT_EQ(landed.batch.entries[0].sequence->handle(), 3u);
  EXPECT_THAT(landed.rows.at(0).host(), ElementsAreArray(Rows({7})));
  EXPECT_EQ(landed.held[0].begin, 0);
  EXPECT_EQ(recorders_[2].Now().finishes, 0);
  EXPECT_THAT(recorders_[1].Now().status.message(),
              AllOf(HasSubstr("math@1"), HasSubstr("layers [4, 8)"), HasSubstr("too long")));
}

TEST_F(RemoteLayersTest, AnAnswerOfAnotherShapeIsAnErrorThatNamesTheExpert) {
  link_->Hold();
  ASSERT_OK(Send());
  exchange::SwapResult result;
  result.rows = Rows({7});  // of two sequences
  const RemoteLayers::Landed landed = Land(link_->headers()[0].id, std::move(result));
  EXPECT_THAT(landed.batch.entries, IsEmpty());
  for (const int i : {1, 2}) {
    EXPECT_THAT(recorders_[i].Now().status,
                StatusIs(absl::StatusCode::kInternal, HasSubstr("math@1")));
  }
}

TEST_F(RemoteLayersTest, LayerOutputsThatWereCapturedLieWithTheirSequence) {
  for (StepEntry& entry : batch_.entries) {
    entry.hidden.assign(9 * entry.row_count * width_, -1.0f);
  }
  std::vector<LeavingGroup> groups = GroupsLeaving(batch_);
  ASSERT_THAT(groups, SizeIs(1));
  link_->Hold();
  ASSERT_OK(layers_->SendAway(batch_, groups));
  const exchange::SwapHeader header = link_->headers()[0];
  exchange::SwapResult result;
  result.rows = Rows({20, 50});
  for (int layer = 0; layer < header.layer()->layers.size(); ++layer) {
    const float from = 100.0f * layer;
    const std::vector<float> rows = Rows({from + 2, from + 3, from + 4, from + 5});
    result.captured.insert(result.captured.end(), rows.begin(), rows.end());
  }
  const RemoteLayers::Landed landed = Land(header.id, std::move(result));
  ASSERT_THAT(landed.batch.entries, SizeIs(2));
  const std::vector<float>& hidden = landed.batch.entries[1].hidden;
  EXPECT_EQ(hidden[4 * 3 * width_], -1.0f);         // of a layer before
  EXPECT_EQ(hidden[5 * 3 * width_], 3.0f);          // after layer 4, row 0
  EXPECT_EQ(hidden[(8 * 3 + 2) * width_], 305.0f);  // after layer 7, row 2
}

}  // namespace
}  // namespace ccoe::engine
