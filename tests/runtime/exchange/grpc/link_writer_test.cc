#include "runtime/exchange/grpc/link_writer.h"

#include <functional>
#include <memory>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/exchange/swap_recorder.h"

namespace ccoe::exchange {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class LinkWriterTest : public ::testing::Test {
 protected:
  void Start(LinkWriter::Options options = {}) {
    options.on_broken = [this] { broken_.Notify(); };
    writer_ = std::make_unique<LinkWriter>(std::move(options));
  }
  // Writes nothing but that it was its turn.
  LinkWriter::Write Item(int number) {
    return [this, number] {
      absl::MutexLock lock(&mutex_);
      written_.push_back(number);
      return true;
    };
  }
  // An item that keeps the writer busy until it may go on.
  void Block() {
    ASSERT_TRUE(writer_->Push({}, [this] {
      running_.Notify();
      go_on_.WaitForNotification();
      return true;
    }));
    running_.WaitForNotification();
  }
  std::vector<int> Await(size_t count) {
    absl::MutexLock lock(&mutex_);
    auto enough = [&] { return written_.size() >= count; };
    mutex_.AwaitWithTimeout(absl::Condition(&enough), kTestPatience);
    return written_;
  }

  absl::Mutex mutex_;
  std::vector<int> written_;
  absl::Notification broken_, running_, go_on_;
  std::unique_ptr<LinkWriter> writer_;
};

TEST_F(LinkWriterTest, WritesInOrderAndLetsUrgentThingsOvertake) {
  Start();
  Block();
  for (const int number : {1, 2, 3}) EXPECT_TRUE(writer_->Push({}, Item(number)));
  for (const int number : {8, 9}) EXPECT_TRUE(writer_->PushUrgent(Item(number)));
  go_on_.Notify();
  EXPECT_THAT(Await(5), ElementsAre(8, 9, 1, 2, 3));
}

TEST_F(LinkWriterTest, WhatHasNoCreditWaitsAndHoldsUpAllBehindItButWhatIsUrgent) {
  LinkWriter::Options options;
  options.credit = {100, 2};
  Start(std::move(options));
  EXPECT_TRUE(writer_->Push({60, 1}, Item(1)));
  EXPECT_TRUE(writer_->Push({60, 1}, Item(2)));
  EXPECT_TRUE(writer_->Push({}, Item(3)));
  EXPECT_THAT(Await(1), ElementsAre(1));
  EXPECT_TRUE(writer_->Starved());
  EXPECT_TRUE(writer_->PushUrgent(Item(9)));
  EXPECT_THAT(Await(2), ElementsAre(1, 9));
  writer_->ReturnCredit({60, 1});
  EXPECT_THAT(Await(4), ElementsAre(1, 9, 2, 3));
  EXPECT_FALSE(writer_->Starved());
}

TEST_F(LinkWriterTest, SwapsAreCreditsToo) {
  LinkWriter::Options options;
  options.credit = {100, 1};
  Start(std::move(options));
  EXPECT_TRUE(writer_->Push({1, 1}, Item(1)));
  EXPECT_TRUE(writer_->Push({1, 1}, Item(2)));
  EXPECT_THAT(Await(1), ElementsAre(1));
  EXPECT_TRUE(writer_->Starved());
  writer_->ReturnCredit({1, 1});
  EXPECT_THAT(Await(2), ElementsAre(1, 2));
}

TEST_F(LinkWriterTest, RefusesMoreThanItHolds) {
  LinkWriter::Options options;
  options.max_items = 2;
  Start(std::move(options));
  Block();
  for (const int number : {1, 2}) EXPECT_TRUE(writer_->Push({}, Item(number)));
  EXPECT_FALSE(writer_->Push({}, Item(3)));
  go_on_.Notify();
  EXPECT_THAT(Await(2), ElementsAre(1, 2));
  EXPECT_TRUE(writer_->Push({}, Item(4)));
}

TEST_F(LinkWriterTest, AWriteThatFailsEndsAllAndSaysSo) {
  Start();
  Block();
  EXPECT_TRUE(writer_->Push({}, [] { return false; }));
  EXPECT_TRUE(writer_->Push({}, Item(1)));
  go_on_.Notify();
  EXPECT_TRUE(broken_.WaitForNotificationWithTimeout(kTestPatience));
  EXPECT_FALSE(writer_->Push({}, Item(2)));
  EXPECT_FALSE(writer_->PushUrgent(Item(3)));
  writer_.reset();
  EXPECT_THAT(written_, IsEmpty());
}

TEST_F(LinkWriterTest, WithoutAFirstItemInTimeItIsBroken) {
  LinkWriter::Options options;
  options.first_item = absl::Milliseconds(1);
  Start(std::move(options));
  EXPECT_TRUE(broken_.WaitForNotificationWithTimeout(kTestPatience));
}

TEST_F(LinkWriterTest, CloseDropsWhatWaitsWithoutWaitingForAWrite) {
  Start();
  Block();
  auto held = std::make_shared<int>(0);
  EXPECT_TRUE(writer_->Push({}, [held] { return true; }));
  writer_->Close();
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_FALSE(writer_->AwaitDone(absl::ZeroDuration()));
  go_on_.Notify();
  EXPECT_TRUE(writer_->AwaitDone(kTestPatience));
  EXPECT_FALSE(broken_.HasBeenNotified());
}

}  // namespace
}  // namespace ccoe::exchange
