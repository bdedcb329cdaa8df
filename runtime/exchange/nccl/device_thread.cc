// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/nccl/device_thread.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "runtime/exchange/nccl/link_driver.h"

namespace ccoe::exchange {
namespace {

// Polled without a pause for as long as a small transfer takes, then with one.
constexpr int kEagerPolls = 200;
constexpr absl::Duration kPollPause = absl::Microseconds(10);

// A link's user's end of a driver.
class DrivenCarrier final : public RowCarrier {
 public:
  DrivenCarrier(DeviceThread* thread, std::shared_ptr<LinkDriver> driver)
      : thread_(thread), driver_(std::move(driver)) {}

  ~DrivenCarrier() override {
    Abort();
    absl::Notification buried;
    thread_->Run([driver = std::move(driver_), &buried] {
      driver->OnBuried([&buried] { buried.Notify(); });
    });
    buried.WaitForNotification();
  }

  void Send(CarriedRows rows, Done done) override {
    thread_->Run([driver = driver_, rows = std::move(rows), done = std::move(done)]() mutable {
      driver->Send(std::move(rows), std::move(done));
    });
  }
  void Receive(CarriedRows room, Done done) override {
    thread_->Run([driver = driver_, room = std::move(room), done = std::move(done)]() mutable {
      driver->Receive(std::move(room), std::move(done));
    });
  }
  void Take(const Note& note) override {
    thread_->Run([driver = driver_, note] { driver->Take(note); });
  }
  void Abort() override {
    thread_->Run(
        [driver = driver_] { driver->Fail(absl::UnavailableError("the link is closed")); });
  }

 private:
  DeviceThread* const thread_;
  std::shared_ptr<LinkDriver> driver_;
};

}  // namespace

DeviceThread::DeviceThread(Options options)
    : options_(std::move(options)), clock_(ClockOr(options_.clock)) {
  thread_ = std::thread([this] { Loop(); });
}

DeviceThread::~DeviceThread() {
  {
    absl::MutexLock lock(&mutex_);
    ending_ = true;
  }
  thread_.join();
}

void DeviceThread::Run(absl::AnyInvocable<void()> task) {
  absl::MutexLock lock(&mutex_);
  tasks_.push_back(std::move(task));
}

absl::StatusOr<std::unique_ptr<RowCarrier>> DeviceThread::Open(Make make, bool leads,
                                                               absl::Duration timeout,
                                                               RowCarrier::SendNote send_note) {
  struct Opening {
    absl::Notification over;
    absl::Status status;
    std::shared_ptr<LinkDriver> driver;
  };
  auto opening = std::make_shared<Opening>();
  Run([this, opening, make = std::move(make), leads, send_note = std::move(send_note)]() mutable {
    LinkDriver::Options options;
    options.leads = leads;
    options.patience = options_.patience;
    options.send_note = std::move(send_note);
    options.opened = [opening](absl::Status status) {
      opening->status = std::move(status);
      opening->over.Notify();
    };
    opening->driver = std::make_shared<LinkDriver>(make(), std::move(options));
    links_.push_back(opening->driver);
  });
  if (!opening->over.WaitForNotificationWithTimeout(timeout)) {
    Run([opening] {
      opening->driver->Fail(absl::DeadlineExceededError("the peer's rank did not come"));
    });
    opening->over.WaitForNotification();
    return absl::DeadlineExceededError(
        absl::StrCat("the peer's rank did not come within ", absl::FormatDuration(timeout)));
  }
  if (!opening->status.ok()) return opening->status;
  return std::make_unique<DrivenCarrier>(this, opening->driver);
}

bool DeviceThread::TakeTasks(bool active, std::vector<absl::AnyInvocable<void()>>& tasks) {
  absl::MutexLock lock(&mutex_);
  const auto something = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return ending_ || !tasks_.empty();
  };
  if (!active) mutex_.Await(absl::Condition(&something));
  tasks.clear();
  tasks.swap(tasks_);
  return !ending_ || !tasks.empty();
}

bool DeviceThread::StepAll() {
  const absl::Time now = clock_.Now();
  bool active = false;
  for (const auto& link : links_) active = link->Step(now) || active;
  // All that failed are revoked by now.
  const auto dead = std::stable_partition(links_.begin(), links_.end(),
                                          [now](const auto& link) { return !link->Dead(now); });
  for (auto link = dead; link != links_.end(); ++link) (*link)->Bury();
  links_.erase(dead, links_.end());
  return active;
}

void DeviceThread::Loop() {
  if (options_.on_start) options_.on_start();
  std::vector<absl::AnyInvocable<void()>> tasks;
  bool active = false;
  int polls = 0;
  while (TakeTasks(active, tasks)) {
    for (absl::AnyInvocable<void()>& task : tasks) task();
    polls = tasks.empty() ? polls + 1 : 0;
    active = StepAll();
    if (active && polls > kEagerPolls) absl::SleepFor(kPollPause);
  }
}

}  // namespace ccoe::exchange
