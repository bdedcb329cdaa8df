#include "runtime/exchange/grpc/link_thread.h"

#include <system_error>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"

namespace ccoe::exchange {

namespace {

// What executors and servers of gRPC may start at once on a machine of a few cores.
constexpr size_t kSpareThreads = 24;

}  // namespace

bool ThreadsToSpare() {
  absl::Notification go;
  std::vector<std::thread> threads;
  try {
    while (threads.size() < kSpareThreads) {
      threads.emplace_back([&go] { go.WaitForNotification(); });
    }
  } catch (const std::system_error&) {
  }
  go.Notify();
  for (std::thread& thread : threads) thread.join();
  return threads.size() == kSpareThreads;
}

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
    try {
      if (!thread_.joinable() && ThreadsToSpare()) thread_ = std::thread([this] { Work(); });
    } catch (const std::system_error&) {
    }
    if (thread_.joinable()) {
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
