#include "runtime/exchange/grpc/link_writer.h"

#include <utility>

namespace ccoe::exchange {

LinkWriter::LinkWriter(Options options) : options_(std::move(options)), credit_(options_.credit) {
  thread_ = std::thread([this] { WriteAll(); });
}

LinkWriter::~LinkWriter() {
  Close();
  thread_.join();
}

bool LinkWriter::Push(const SwapCredit& cost, Write write) {
  absl::MutexLock lock(&mutex_);
  if (closed_ || items_.size() >= options_.max_items) return false;
  items_.push_back({cost, std::move(write)});
  return true;
}

bool LinkWriter::PushUrgent(Write write) {
  absl::MutexLock lock(&mutex_);
  if (closed_ || urgent_.size() >= options_.max_items) return false;
  urgent_.push_back(std::move(write));
  return true;
}

void LinkWriter::ReturnCredit(const SwapCredit& credit) {
  absl::MutexLock lock(&mutex_);
  credit_ += credit;
}

bool LinkWriter::Starved() const {
  absl::MutexLock lock(&mutex_);
  return !items_.empty() && !credit_.Covers(items_.front().cost);
}

bool LinkWriter::closed() const {
  absl::MutexLock lock(&mutex_);
  return closed_;
}

void LinkWriter::Close() {
  std::deque<Write> urgent;  // what items hold goes without the lock
  std::deque<Item> items;
  absl::MutexLock lock(&mutex_);
  closed_ = true;
  urgent.swap(urgent_);
  items.swap(items_);
}

bool LinkWriter::ReadyLocked() const {
  return closed_ || !urgent_.empty() || (!items_.empty() && credit_.Covers(items_.front().cost));
}

LinkWriter::Write LinkWriter::Next(absl::Duration timeout) {
  Write write;
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(this, &LinkWriter::ReadyLocked), timeout);
  if (!urgent_.empty()) {
    write = std::move(urgent_.front());
    urgent_.pop_front();
  } else if (!items_.empty() && credit_.Covers(items_.front().cost)) {
    credit_ -= items_.front().cost;
    write = std::move(items_.front().write);
    items_.pop_front();
  }
  return write;
}

void LinkWriter::WriteAll() {
  absl::Duration timeout = options_.first_item;
  // What was written is not held while the next one is awaited: its rows take up room.
  while (Write write = Next(timeout)) {
    timeout = absl::InfiniteDuration();
    if (!write()) break;
  }
  const bool broken = !closed();
  Close();
  if (broken && options_.on_broken) options_.on_broken();
  done_.Notify();
}

}  // namespace ccoe::exchange
