// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/grpc/link_thread.h"

#include <glog/logging.h>

#include <system_error>
#include <utility>

#include "runtime/base/check.h"

namespace ccoe::exchange {

LinkThread::~LinkThread() {
  std::thread thread;
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    thread.swap(thread_);
  }
  if (thread.joinable()) thread.join();
}

void LinkThread::Run(absl::AnyInvocable<void()> work) {
  {
    absl::MutexLock lock(&mutex_);
    CCOE_CHECK(!stopping_);
    if (!thread_.joinable() && !without_thread_) {
      try {
        thread_ = std::thread([this] { Work(); });
      } catch (const std::system_error& error) {
        without_thread_ = true;
        LOG(WARNING) << "a link has no thread of its own and holds others up: " << error.what();
      }
    }
    if (!without_thread_) {
      queue_.push_back(std::move(work));
      return;
    }
  }
  work();
}

void LinkThread::Work() {
  const auto wake = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !queue_.empty();
  };
  while (true) {
    absl::AnyInvocable<void()> work;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&wake));
      if (queue_.empty()) return;
      work = std::move(queue_.front());
      queue_.pop_front();
    }
    work();
  }
}

}  // namespace ccoe::exchange
