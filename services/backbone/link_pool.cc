// SPDX-License-Identifier: Apache-2.0
#include "services/backbone/link_pool.h"

#include <utility>

#include "absl/time/clock.h"
#include "glog/logging.h"
#include "runtime/base/check.h"

namespace ccoe::services {

// Takes links in on any thread and destroys them on the pool's. Shared with the links' deleters,
// which may come after the pool.
class LinkPool::Graveyard {
 public:
  // A pointer whose last holder brings the link here.
  static std::shared_ptr<exchange::ActivationLink> Guard(
      std::shared_ptr<Graveyard> self, std::unique_ptr<exchange::ActivationLink> link) {
    return {link.release(), [self = std::move(self)](exchange::ActivationLink* let_go) {
              self->Bury(std::unique_ptr<exchange::ActivationLink>(let_go));
            }};
  }

  void Clear() ABSL_LOCKS_EXCLUDED(mutex_) {
    std::vector<std::unique_ptr<exchange::ActivationLink>> links;
    absl::MutexLock lock(&mutex_);
    links.swap(links_);
    mutex_.Unlock();
    links.clear();
    mutex_.Lock();
  }
  // Nobody clears it any more: links are destroyed where they are let go.
  void Retire() ABSL_LOCKS_EXCLUDED(mutex_) {
    Clear();
    absl::MutexLock lock(&mutex_);
    retired_ = true;
  }

 private:
  void Bury(std::unique_ptr<exchange::ActivationLink> link) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (!retired_) links_.push_back(std::move(link));
  }

  absl::Mutex mutex_;
  std::vector<std::unique_ptr<exchange::ActivationLink>> links_ ABSL_GUARDED_BY(mutex_);
  bool retired_ ABSL_GUARDED_BY(mutex_) = false;
};

LinkPool::LinkPool(LinkPoolOptions options)
    : options_(std::move(options)), graveyard_(std::make_shared<Graveyard>()) {
  CCOE_CHECK(options_.open != nullptr && options_.on_change != nullptr);
  thread_ = std::thread([this] { Run(); });
}

LinkPool::~LinkPool() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
  {
    absl::MutexLock lock(&mutex_);
    entries_.clear();
  }
  graveyard_->Retire();
}

void LinkPool::SetAddresses(const std::set<std::string>& addresses) {
  std::vector<std::shared_ptr<exchange::ActivationLink>> let_go;  // outside the lock
  absl::MutexLock lock(&mutex_);
  for (auto it = entries_.begin(); it != entries_.end();) {
    if (addresses.count(it->first) != 0) {
      ++it;
      continue;
    }
    let_go.push_back(std::move(it->second.link));
    it = entries_.erase(it);
  }
  for (const std::string& address : addresses) entries_.try_emplace(address);
  wake_ = true;
}

absl::StatusOr<std::shared_ptr<exchange::ActivationLink>> LinkPool::Get(
    const std::string& address) {
  absl::MutexLock lock(&mutex_);
  const auto found = entries_.find(address);
  if (found == entries_.end()) return absl::UnavailableError("no link is wanted there");
  const Entry& entry = found->second;
  if (entry.link == nullptr) return entry.error;
  if (entry.link->healthy()) return entry.link;
  wake_ = true;
  return entry.link->Health();
}

void LinkPool::Run() {
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      auto wake = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_ || wake_; };
      mutex_.AwaitWithTimeout(absl::Condition(&wake), options_.retry);
      if (stopping_) break;
      wake_ = false;
    }
    JoinOpeners(/*all=*/false);
    for (const std::string& address : AddressesToOpen()) {
      openers_[address] = std::thread([this, address] { Open(address); });
    }
    graveyard_->Clear();
  }
  JoinOpeners(/*all=*/true);
}

std::vector<std::string> LinkPool::AddressesToOpen() {
  const absl::Time now = absl::Now();
  std::vector<std::string> addresses;
  std::vector<std::shared_ptr<exchange::ActivationLink>> broken;
  const int room = options_.max_opening - static_cast<int>(openers_.size());
  {
    absl::MutexLock lock(&mutex_);
    for (auto& [address, entry] : entries_) {
      if (entry.link != nullptr && entry.link->healthy()) continue;
      if (entry.link != nullptr) {
        entry.error = entry.link->Health();
        LOG(WARNING) << "link to " << address << " broke: " << entry.error.message();
        broken.push_back(std::exchange(entry.link, nullptr));
      }
      const bool wanted = entry.next_attempt <= now && openers_.count(address) == 0;
      if (wanted && static_cast<int>(addresses.size()) < room) addresses.push_back(address);
    }
  }
  if (!broken.empty()) options_.on_change();
  return addresses;
}

void LinkPool::Open(const std::string& address) {
  absl::StatusOr<std::unique_ptr<exchange::ActivationLink>> link = options_.open(address);
  std::shared_ptr<exchange::ActivationLink> guarded;
  if (link.ok()) guarded = Graveyard::Guard(graveyard_, *std::move(link));
  {
    absl::MutexLock lock(&mutex_);
    opened_.push_back(address);
    wake_ = true;
    const auto it = entries_.find(address);
    if (it == entries_.end()) return;  // the worker left meanwhile
    it->second.next_attempt = absl::Now() + options_.retry;
    if (guarded == nullptr) {
      it->second.error = link.status();
      return;
    }
    it->second.link = std::move(guarded);
  }
  options_.on_change();
}

void LinkPool::JoinOpeners(bool all) {
  std::vector<std::string> addresses;
  {
    absl::MutexLock lock(&mutex_);
    addresses = std::exchange(opened_, {});
  }
  if (all) {
    addresses.clear();
    for (const auto& [address, opener] : openers_) addresses.push_back(address);
  }
  for (const std::string& address : addresses) {
    const auto it = openers_.find(address);
    it->second.join();
    openers_.erase(it);
  }
}

}  // namespace ccoe::services
