// SPDX-License-Identifier: Apache-2.0
// Two drivers over one fake wire, stepped by hand at a time of the test's own.
#include "runtime/exchange/nccl/link_driver.h"

#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/exchange/nccl/fake_communicator.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::exchange {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

class LinkDriverTest : public ::testing::Test {
 protected:
  LinkDriverTest() {
    for (int end = 0; end < 2; ++end) {
      LinkDriver::Options options;
      options.leads = end == 0;
      options.patience = absl::Seconds(1);
      options.send_note = [this, end](const RowCarrier::Note& note) {
        notes_[1 - end].push_back(note);
      };
      options.opened = [this, end](absl::Status status) { opened_[end] = std::move(status); };
      ends_[end] = std::make_unique<LinkDriver>(std::make_unique<FakeCommunicator>(wire_, end),
                                                std::move(options));
    }
  }

  bool Step(int end) { return ends_[end]->Step(now_); }
  // The notes on their way to an end arrive.
  void Arrive(int end) {
    for (; !notes_[end].empty(); notes_[end].pop_front()) ends_[end]->Take(notes_[end].front());
  }
  void Open() {
    Step(0);
    Step(1);
    ASSERT_OK(opened_[0]);
    ASSERT_OK(opened_[1]);
  }
  static RowCarrier::Done Keep(absl::StatusOr<CarriedRows>& result) {
    return [&result](absl::StatusOr<CarriedRows> rows) { result = std::move(rows); };
  }

  absl::Time now_ = absl::FromUnixSeconds(1000);
  std::shared_ptr<FakeWire> wire_ = std::make_shared<FakeWire>();
  std::deque<RowCarrier::Note> notes_[2];
  absl::Status opened_[2] = {absl::UnknownError("not yet"), absl::UnknownError("not yet")};
  std::unique_ptr<LinkDriver> ends_[2];
  absl::StatusOr<CarriedRows> sent_ = absl::UnknownError("not yet"),
                              received_ = absl::UnknownError("not yet");
};

TEST_F(LinkDriverTest, OpensWhenBothEndsHaveMet) {
  Open();
  EXPECT_FALSE(Step(0));
  EXPECT_FALSE(Step(1));
}

TEST_F(LinkDriverTest, RowsGoWhenBothEndsHavePosted) {
  Open();
  ends_[1]->Receive(CarriedRows("...."), Keep(received_));
  ends_[0]->Send(CarriedRows("rows"), Keep(sent_));
  EXPECT_TRUE(Step(0));   // posted
  EXPECT_FALSE(Step(1));  // it does not know yet
  Arrive(1);
  Step(1);
  ASSERT_OK(received_.status());
  EXPECT_EQ(received_->bytes, "rows");
  EXPECT_FALSE(Step(0));
  EXPECT_OK(sent_.status());
}

TEST_F(LinkDriverTest, PatienceCountsFromTheOtherEndsWordNotFromWhenThisOnePosted) {
  Open();
  wire_->Cut();
  ends_[1]->Receive(CarriedRows("...."), Keep(received_));
  ends_[0]->Send(CarriedRows("rows"), Keep(sent_));
  EXPECT_TRUE(Step(0));
  now_ += absl::Hours(1);
  EXPECT_TRUE(Step(0));
  EXPECT_FALSE(ends_[0]->failed());
  Arrive(1);
  EXPECT_TRUE(Step(1));
  Arrive(0);
  EXPECT_TRUE(Step(0));
  now_ += absl::Milliseconds(999);
  Step(0);
  EXPECT_FALSE(ends_[0]->failed());
  now_ += absl::Milliseconds(1);
  Step(0);
  ASSERT_TRUE(ends_[0]->failed());
  ASSERT_TRUE(ends_[0]->Dead(now_));
  ends_[0]->Bury();
  EXPECT_THAT(sent_, StatusIs(absl::StatusCode::kUnavailable,
                              HasSubstr("round 1 is not through 1s after both ends")));
}

TEST_F(LinkDriverTest, ABurialTellsAllThatWaitAndWhoAsksLater) {
  Open();
  ends_[0]->Receive(CarriedRows("...."), Keep(received_));
  ends_[0]->Fail(absl::UnavailableError("the link is closed"));
  ends_[0]->Fail(absl::UnavailableError("again"));
  bool buried = false;
  ends_[0]->OnBuried([&buried] { buried = true; });
  EXPECT_FALSE(buried);
  ends_[0]->Bury();
  EXPECT_TRUE(buried);
  EXPECT_THAT(received_, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("is closed")));
  ends_[0]->Send(CarriedRows("rows"), Keep(sent_));
  EXPECT_THAT(sent_, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("is closed")));
}

TEST_F(LinkDriverTest, OneThatNeverMetSaysWhyItEnded) {
  auto lonely = std::make_shared<FakeWire>();
  absl::Status opened = absl::UnknownError("not yet");
  LinkDriver::Options options;
  options.opened = [&opened](absl::Status status) { opened = std::move(status); };
  LinkDriver driver(std::make_unique<FakeCommunicator>(lonely, 0), std::move(options));
  EXPECT_TRUE(driver.Step(now_));
  driver.Fail(absl::DeadlineExceededError("the peer did not come"));
  ASSERT_TRUE(driver.Dead(now_));
  driver.Bury();
  EXPECT_THAT(opened, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("did not come")));
}

}  // namespace
}  // namespace ccoe::exchange
