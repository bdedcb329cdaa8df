// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/grpc/exchange_service.h"

#include <glog/logging.h>

#include <algorithm>
#include <exception>
#include <iterator>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"

namespace ccoe::exchange {
namespace {

// A call that ends as soon as it has begun.
class Refusal final : public grpc::ServerBidiReactor<v1::LinkMessage, v1::LinkReply> {
 public:
  explicit Refusal(const absl::Status& why) { Finish(ToGrpcStatus(why)); }
  void OnDone() override { delete this; }
};

absl::Status NoThreads(absl::string_view why) {
  const absl::Status none = absl::ResourceExhaustedError(
      absl::StrCat("the worker has no threads to spare for a link", why.empty() ? "" : ": ", why));
  LOG_EVERY_N(WARNING, 100) << none.message()
                            << " (limits: ulimit -u, the container's pids.max, memory)";
  return none;
}

// What executors and servers of gRPC may start at once on a machine of a few cores, and what the
// links let in by one probe may start: two each.
constexpr size_t kSpareThreads = 16 + 2 * ThreadReserve::kLinksAProbe;
constexpr absl::Duration kProbeHolds = absl::Seconds(1);

}  // namespace

ExchangeService::ExchangeService(SwapHandler* handler, ExchangeServiceOptions options)
    : handler_(handler), options_(std::move(options)), reserve_(options_.spare_threads) {}

ExchangeService::~ExchangeService() {
  std::list<OpenLink> all;
  {
    absl::MutexLock lock(&mutex_);
    auto over = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return LinksLocked() == 0; };
    mutex_.Await(absl::Condition(&over));
    all.swap(open_);
  }
  for (OpenLink& each : all) each.thread.join();
}

grpc::ServerBidiReactor<v1::LinkMessage, v1::LinkReply>* ExchangeService::Open(
    grpc::CallbackServerContext* context) {
  absl::Status admitted;
  {
    absl::MutexLock lock(&mutex_);
    admitted = AdmitLocked();
  }
  // May take milliseconds: not under the lock, and not for a link that is refused anyway.
  if (admitted.ok() && !reserve_.Admit()) admitted = NoThreads("");
  std::list<OpenLink> over;
  grpc::ServerBidiReactor<v1::LinkMessage, v1::LinkReply>* call = nullptr;
  {
    absl::MutexLock lock(&mutex_);
    over = TakeOver();
    if (admitted.ok()) admitted = AdmitLocked();  // others may have opened meanwhile
    if (admitted.ok()) admitted = StartLocked(context);
    if (admitted.ok()) {
      call = open_.back().link.get();
    } else {
      call = new Refusal(admitted);
    }
  }
  for (OpenLink& each : over) each.thread.join();
  return call;
}

absl::Status ExchangeService::StartLocked(grpc::CallbackServerContext* context) {
  OpenLink& open = open_.emplace_back();
  try {
    open.thread = std::thread([this, &open] { Run(open); });
  } catch (const std::system_error& error) {
    open_.pop_back();
    return NoThreads(error.what());
  }
  open.link = std::make_unique<ServerLink>(handler_, options_.link, context);
  return absl::OkStatus();
}

void ExchangeService::Run(OpenLink& open) {
  ServerLink* link = nullptr;
  {
    absl::MutexLock lock(&mutex_);
    link = open.link.get();
  }
  link->Run();
  absl::MutexLock lock(&mutex_);
  open.link.reset();
}

std::list<ExchangeService::OpenLink> ExchangeService::TakeOver() {
  std::list<OpenLink> over;
  for (auto it = open_.begin(); it != open_.end();) {
    const auto next = std::next(it);
    if (it->link == nullptr) over.splice(over.end(), open_, it);
    it = next;
  }
  return over;
}

int ExchangeService::LinksLocked() const {
  return static_cast<int>(std::count_if(open_.begin(), open_.end(),
                                        [](const OpenLink& open) { return open.link != nullptr; }));
}

absl::Status ExchangeService::AdmitLocked() const {
  if (closing_) return absl::UnavailableError("the worker is stopping");
  const int links = LinksLocked();
  if (links < options_.max_links) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat(links, " links are open, at most ", options_.max_links));
}

void ExchangeService::CloseLinks() {
  absl::MutexLock lock(&mutex_);
  closing_ = true;
  for (const OpenLink& open : open_) {
    if (open.link != nullptr) open.link->Cancel(absl::UnavailableError("the worker is stopping"));
  }
}

int ExchangeService::links() const {
  absl::MutexLock lock(&mutex_);
  return LinksLocked();
}

bool StartsSpareThreads() {
  absl::Notification go;
  std::vector<std::thread> threads;
  try {
    threads.reserve(kSpareThreads);
    while (threads.size() < kSpareThreads) {
      threads.emplace_back([&go] { go.WaitForNotification(); });
    }
  } catch (const std::exception&) {  // no thread, or no memory for it
  }
  go.Notify();
  for (std::thread& thread : threads) thread.join();
  return threads.size() == kSpareThreads;
}

ThreadReserve::ThreadReserve(std::function<bool()> probe, const Clock* clock)
    : probe_(std::move(probe)), clock_(ClockOr(clock)) {}

bool ThreadReserve::Admit() {
  absl::MutexLock lock(&mutex_);
  const absl::Time now = clock_.Now();
  const bool failed = now < until_ && links_ == 0;
  if (failed) return false;
  if (now >= until_) {
    links_ = probe_() ? kLinksAProbe : 0;
    until_ = clock_.Now() + kProbeHolds;
    if (links_ == 0) return false;
  }
  if (--links_ == 0) until_ = absl::InfinitePast();  // the next link probes anew
  return true;
}

}  // namespace ccoe::exchange
