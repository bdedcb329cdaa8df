// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/grpc/link_writer.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/exchange/swap_recorder.h"

namespace ccoe::exchange {
namespace {

using ::testing::ElementsAre;

class LinkWriterTest : public ::testing::Test {
 protected:
  void Start(LinkWriter::Options options = {}) {
    options.thread = &thread_;
    options.on_done = [this] { ++dones_; };
    writer_ = std::make_unique<LinkWriter>(std::move(options));
  }
  ~LinkWriterTest() override {
    writer_->Close();
    if (writing_) writer_->Written(true);
  }
  // Begins a write and says that it was its turn.
  LinkWriter::Write Item(int number) {
    return [this, number] {
      absl::MutexLock lock(&mutex_);
      EXPECT_FALSE(writing_) << "two writes at a time";
      writing_ = true;
      written_.push_back(number);
      writer_of_last_ = std::this_thread::get_id();
      return true;
    };
  }
  bool Push(int number, const SwapCredit& cost = {}, int64_t bytes = 0) {
    return writer_->Push(cost, bytes, Item(number));
  }
  // The write that was begun is over.
  void EndWrite(bool ok = true) {
    {
      absl::MutexLock lock(&mutex_);
      EXPECT_TRUE(writing_);
      writing_ = false;
    }
    writer_->Written(ok);
  }
  std::vector<int> written() {
    absl::MutexLock lock(&mutex_);
    return written_;
  }
  bool Await(size_t count) {
    absl::MutexLock lock(&mutex_);
    auto enough = [&] { return written_.size() >= count; };
    return mutex_.AwaitWithTimeout(absl::Condition(&enough), kTestPatience);
  }

  absl::Mutex mutex_;
  bool writing_ = false;
  std::vector<int> written_;
  std::thread::id writer_of_last_;
  std::atomic<int> dones_ = 0;
  std::unique_ptr<LinkWriter> writer_;
  LinkThread thread_;
};

TEST_F(LinkWriterTest, WritesOneAtATimeInOrderAndLetsUrgentThingsOvertake) {
  Start();
  for (const int number : {1, 2, 3}) EXPECT_TRUE(Push(number));
  for (const int number : {8, 9}) EXPECT_TRUE(writer_->PushUrgent(Item(number)));
  EXPECT_THAT(written(), ElementsAre(1)) << "at once, on the thread that pushed it";
  for (int i = 0; i < 5; ++i) EndWrite();
  EXPECT_THAT(written(), ElementsAre(1, 8, 9, 2, 3));
}

TEST_F(LinkWriterTest, WhatHasNoCreditWaitsAndHoldsUpAllBehindItButWhatIsUrgent) {
  LinkWriter::Options options;
  options.credit = {100, 2};
  Start(std::move(options));
  EXPECT_TRUE(Push(1, {60, 1}));
  EXPECT_TRUE(Push(2, {60, 1}));
  EXPECT_TRUE(Push(3));
  EndWrite();
  EXPECT_TRUE(writer_->Starved());
  EXPECT_TRUE(writer_->PushUrgent(Item(9)));
  EndWrite();
  EXPECT_THAT(written(), ElementsAre(1, 9));
  writer_->ReturnCredit({60, 1});
  EndWrite();
  EXPECT_THAT(written(), ElementsAre(1, 9, 2, 3));
  EXPECT_FALSE(writer_->Starved());
}

TEST_F(LinkWriterTest, SwapsAreCreditsToo) {
  LinkWriter::Options options;
  options.credit = {100, 1};
  Start(std::move(options));
  EXPECT_TRUE(Push(1, {1, 1}));
  EXPECT_TRUE(Push(2, {1, 1}));
  EndWrite();
  EXPECT_THAT(written(), ElementsAre(1));
  EXPECT_TRUE(writer_->Starved());
  writer_->ReturnCredit({1, 1});
  EXPECT_THAT(written(), ElementsAre(1, 2));
}

TEST_F(LinkWriterTest, AnItemWithNothingToWriteIsPassedOver) {
  Start();
  EXPECT_TRUE(Push(1));
  EXPECT_TRUE(writer_->Push({}, 0, [] { return false; }));
  EXPECT_TRUE(Push(2));
  EndWrite();
  EXPECT_THAT(written(), ElementsAre(1, 2));
}

TEST_F(LinkWriterTest, WhatTakesLongToEncodeIsLeftToTheLinksThread) {
  Start();
  EXPECT_TRUE(Push(1, {}, LinkThread::kLargeBytes + 1));
  ASSERT_TRUE(Await(1));
  EXPECT_NE(writer_of_last_, std::this_thread::get_id());
  EXPECT_TRUE(Push(2, {}, LinkThread::kLargeBytes));
  EXPECT_TRUE(Push(3, {}, LinkThread::kLargeBytes + 1));
  EndWrite();
  EXPECT_THAT(written(), ElementsAre(1, 2));
  EXPECT_EQ(writer_of_last_, std::this_thread::get_id());
  EndWrite();
  EXPECT_TRUE(Await(3));
}

TEST_F(LinkWriterTest, WhatIsUrgentDoesNotWaitForWhatTakesLong) {
  Start();
  absl::Notification go_on;
  thread_.Run([&go_on] { go_on.WaitForNotification(); });  // it encodes something else
  EXPECT_TRUE(Push(1, {}, LinkThread::kLargeBytes + 1));
  EXPECT_TRUE(writer_->PushUrgent(Item(9)));
  EXPECT_THAT(written(), ElementsAre(9));
  EndWrite();
  go_on.Notify();
  ASSERT_TRUE(Await(2));
  EXPECT_THAT(written(), ElementsAre(9, 1));
}

TEST_F(LinkWriterTest, CreditMayComeBackInsideAWrite) {
  LinkWriter::Options options;
  options.credit = {10, 1};
  Start(std::move(options));
  EXPECT_TRUE(writer_->Push({10, 1}, 0, [this] {
    writer_->ReturnCredit({10, 1});  // its swaps were cancelled
    return false;
  }));
  EXPECT_TRUE(Push(2, {10, 1}));
  EXPECT_THAT(written(), ElementsAre(2));
}

// Many threads push, writes end on another one, credit comes back: all is written, in order.
TEST_F(LinkWriterTest, NothingIsForgottenUnderManyThreads) {
  constexpr int kThreads = 4, kItems = 400;
  LinkWriter::Options options;
  options.credit = {100, 2};
  Start(std::move(options));
  absl::Mutex mutex;
  int to_end = 0;
  std::vector<std::vector<int>> seen(kThreads);
  bool all = false;
  std::thread ender([&] {
    const auto any = [&] { return to_end > 0 || all; };
    while (true) {
      {
        absl::MutexLock lock(&mutex);
        mutex.Await(absl::Condition(&any));
        if (to_end == 0) return;
        --to_end;
      }
      writer_->Written(true);
      writer_->ReturnCredit({10, 1});
    }
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kItems; ++i) {
        const int64_t bytes = i % 7 == 0 ? LinkThread::kLargeBytes + 1 : 0;
        EXPECT_TRUE(writer_->Push({10, 1}, bytes, [&, t, i] {
          absl::MutexLock lock(&mutex);
          seen[t].push_back(i);
          ++to_end;
          return true;
        }));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  {
    absl::MutexLock lock(&mutex);
    const auto written_all = [&] {
      return std::all_of(seen.begin(), seen.end(),
                         [](const auto& each) { return each.size() == kItems; });
    };
    EXPECT_TRUE(mutex.AwaitWithTimeout(absl::Condition(&written_all), kTestPatience));
    all = true;
  }
  ender.join();
  for (const auto& each : seen) EXPECT_TRUE(std::is_sorted(each.begin(), each.end()));
}

TEST_F(LinkWriterTest, RefusesMoreThanItHolds) {
  LinkWriter::Options options;
  options.max_items = 2;
  Start(std::move(options));
  EXPECT_TRUE(Push(0));
  for (const int number : {1, 2}) EXPECT_TRUE(Push(number));
  EXPECT_FALSE(Push(3));
  EndWrite();
  EXPECT_THAT(written(), ElementsAre(0, 1));
  EXPECT_TRUE(Push(4));
}

TEST_F(LinkWriterTest, AWriteThatFailsEndsAllAndSaysSo) {
  Start();
  EXPECT_TRUE(Push(1));
  EXPECT_TRUE(Push(2));
  EXPECT_EQ(dones_, 0);
  EndWrite(/*ok=*/false);
  EXPECT_EQ(dones_, 1);
  EXPECT_TRUE(writer_->closed());
  EXPECT_FALSE(Push(3));
  EXPECT_FALSE(writer_->PushUrgent(Item(4)));
  EXPECT_THAT(written(), ElementsAre(1));
}

TEST_F(LinkWriterTest, CloseDropsWhatWaitsWithoutWaitingForAWrite) {
  Start();
  EXPECT_TRUE(Push(1));
  auto held = std::make_shared<int>(0);
  EXPECT_TRUE(writer_->Push({}, 0, [held] { return true; }));
  writer_->Close();
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_FALSE(writer_->AwaitDone(absl::ZeroDuration()));
  EXPECT_EQ(dones_, 0);
  EndWrite();
  EXPECT_TRUE(writer_->AwaitDone(absl::ZeroDuration()));
  writer_->Close();
  EXPECT_EQ(dones_, 1) << "once";
}

}  // namespace
}  // namespace ccoe::exchange
