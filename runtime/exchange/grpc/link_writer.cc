// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/grpc/link_writer.h"

#include <utility>

#include "runtime/base/check.h"

namespace ccoe::exchange {

LinkWriter::LinkWriter(Options options) : options_(std::move(options)), credit_(options_.credit) {
  CCOE_CHECK(options_.thread != nullptr);
}

LinkWriter::~LinkWriter() {
  Close();
  AwaitDone(absl::InfiniteDuration());
}

bool LinkWriter::Enqueue(std::deque<Item>& lane, Item item) {
  if (closed_ || lane.size() >= options_.max_items) return false;
  lane.push_back(std::move(item));
  return true;
}

bool LinkWriter::Push(const SwapCredit& cost, int64_t bytes, Write write) {
  {
    absl::MutexLock lock(&mutex_);
    if (!Enqueue(items_, {cost, bytes, std::move(write)})) return false;
  }
  Go(/*may_take_long=*/false);
  return true;
}

bool LinkWriter::PushUrgent(Write write) {
  {
    absl::MutexLock lock(&mutex_);
    if (!Enqueue(urgent_, {{}, 0, std::move(write)})) return false;
  }
  Go(/*may_take_long=*/false);
  return true;
}

void LinkWriter::ReturnCredit(const SwapCredit& credit) {
  {
    absl::MutexLock lock(&mutex_);
    credit_ += credit;
  }
  Go(/*may_take_long=*/false);
}

void LinkWriter::Written(bool ok) {
  std::deque<Item> urgent, items;  // what items hold goes without the lock
  {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok) CloseLocked(urgent, items);
  }
  Go(/*may_take_long=*/false);
}

bool LinkWriter::Starved() const {
  absl::MutexLock lock(&mutex_);
  return !items_.empty() && !credit_.Covers(items_.front().cost);
}

bool LinkWriter::closed() const {
  absl::MutexLock lock(&mutex_);
  return closed_;
}

void LinkWriter::CloseLocked(std::deque<Item>& urgent, std::deque<Item>& items) {
  closed_ = true;
  urgent.swap(urgent_);
  items.swap(items_);
}

void LinkWriter::Close() {
  std::deque<Item> urgent, items;
  bool over = false;
  {
    absl::MutexLock lock(&mutex_);
    CloseLocked(urgent, items);
    over = OverLocked();
  }
  if (over) SayDone();
}

std::deque<LinkWriter::Item>* LinkWriter::ReadyLocked() {
  if (closed_ || writing_) return nullptr;
  if (!urgent_.empty()) return &urgent_;
  return !items_.empty() && credit_.Covers(items_.front().cost) ? &items_ : nullptr;
}

void LinkWriter::Go(bool may_take_long) {
  bool over = false, ask = false;
  while (true) {
    Write write;
    {
      absl::MutexLock lock(&mutex_);
      if (may_take_long) asked_ = false;
      std::deque<Item>* const lane = ReadyLocked();
      over = OverLocked();
      if (lane == nullptr) break;
      if (lane->front().bytes > LinkThread::kLargeBytes && !may_take_long) {
        ask = !std::exchange(asked_, true);
        break;
      }
      credit_ -= lane->front().cost;
      write = std::move(lane->front().write);
      lane->pop_front();
      writing_ = true;
    }
    if (write()) return;
    absl::MutexLock lock(&mutex_);
    writing_ = false;
  }
  if (over) SayDone();
  if (ask) options_.thread->Run([this] { Go(/*may_take_long=*/true); });
}

bool LinkWriter::OverLocked() {
  if (!closed_ || writing_ || over_) return false;
  over_ = true;
  return true;
}

void LinkWriter::SayDone() {
  if (options_.on_done) options_.on_done();
  done_.Notify();
}

}  // namespace ccoe::exchange
