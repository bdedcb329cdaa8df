// The expert workers of this process by address, for links without a wire.
#ifndef CCOE_SERVICES_COMMON_LOCAL_PEERS_H_
#define CCOE_SERVICES_COMMON_LOCAL_PEERS_H_

#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "runtime/exchange/activation_link.h"

namespace ccoe::services {

// Thread-safe.
class LocalPeers {
 public:
  // `handler` must outlive all links to it, whether it was removed here or not.
  void Add(const std::string& address, exchange::SwapHandler* handler) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    handlers_[address] = handler;
  }

  void Remove(const std::string& address) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    handlers_.erase(address);
  }

  // Null where no expert worker of this process has this address.
  exchange::SwapHandler* Find(const std::string& address) const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    const auto it = handlers_.find(address);
    return it == handlers_.end() ? nullptr : it->second;
  }

 private:
  mutable absl::Mutex mutex_;
  std::map<std::string, exchange::SwapHandler*> handlers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_LOCAL_PEERS_H_
