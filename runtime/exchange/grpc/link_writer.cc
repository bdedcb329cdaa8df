#include "runtime/exchange/grpc/link_writer.h"

#include <utility>

namespace ccoe::exchange {

LinkWriter::LinkWriter(Options options) : options_(std::move(options)), credit_(options_.credit) {}

LinkWriter::~LinkWriter() {
  Close();
  AwaitDone(absl::InfiniteDuration());
  std::thread own;
  {
    absl::MutexLock lock(&mutex_);
    own.swap(own_);
  }
  if (own.joinable()) own.join();
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
  Go(/*own_thread=*/false);
  return true;
}

bool LinkWriter::PushUrgent(Write write) {
  {
    absl::MutexLock lock(&mutex_);
    if (!Enqueue(urgent_, {{}, 0, std::move(write)})) return false;
  }
  Go(/*own_thread=*/false);
  return true;
}

void LinkWriter::ReturnCredit(const SwapCredit& credit) {
  {
    absl::MutexLock lock(&mutex_);
    credit_ += credit;
  }
  Go(/*own_thread=*/false);
}

void LinkWriter::Written(bool ok) {
  std::deque<Item> urgent, items;  // what items hold goes without the lock
  {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok) CloseLocked(urgent, items);
  }
  Go(/*own_thread=*/false);
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

void LinkWriter::Go(bool own_thread) {
  bool over = false;
  while (true) {
    Write write;
    {
      absl::MutexLock lock(&mutex_);
      std::deque<Item>* const lane = ReadyLocked();
      large_ = lane != nullptr && lane->front().bytes > options_.inline_bytes;
      if (large_ && !own_thread && !own_.joinable()) own_ = std::thread([this] { EncodeLarge(); });
      over = OverLocked();
      if (lane == nullptr || (large_ && !own_thread)) break;
      credit_ -= lane->front().cost;
      write = std::move(lane->front().write);
      lane->pop_front();
      writing_ = true;
      large_ = false;
    }
    if (write()) return;
    absl::MutexLock lock(&mutex_);
    writing_ = false;
  }
  if (over) SayDone();
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

void LinkWriter::EncodeLarge() {
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      auto wake = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return large_ || closed_; };
      mutex_.Await(absl::Condition(&wake));
      if (closed_) return;
    }
    Go(/*own_thread=*/true);
  }
}

}  // namespace ccoe::exchange
