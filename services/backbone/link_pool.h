// SPDX-License-Identifier: Apache-2.0
// The links of a backbone worker to expert workers: one an address, opened in the background and
// opened again after it broke. An address that does not answer delays no other.
#ifndef CCOE_SERVICES_BACKBONE_LINK_POOL_H_
#define CCOE_SERVICES_BACKBONE_LINK_POOL_H_

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "runtime/exchange/activation_link.h"

namespace ccoe::services {

struct LinkPoolOptions {
  // Opens a link; may block for some seconds. Called from threads of the pool, for several
  // addresses at once. Required.
  std::function<absl::StatusOr<std::unique_ptr<exchange::ActivationLink>>(
      const std::string& address)>
      open;
  // A link was opened or has broken. Called from threads of the pool. Required.
  std::function<void()> on_change;
  // Pause before a link that could not be opened, or broke, is opened again.
  absl::Duration retry = absl::Milliseconds(500);
  int max_opening = 64;  // links at once
};

// Thread-safe.
class LinkPool {
 public:
  explicit LinkPool(LinkPoolOptions options);
  // Links that are still held live on.
  ~LinkPool();

  // The addresses that links are wanted to, from now on. A link to another one lives until its last
  // holder lets it go.
  void SetAddresses(const std::set<std::string>& addresses) ABSL_LOCKS_EXCLUDED(mutex_);

  // The link to a wanted address, where it works; else why it does not. A link closes when the last
  // holder of the pointer is gone, on a thread of the pool's: closing waits for threads of the
  // link, which holders need not do.
  absl::StatusOr<std::shared_ptr<exchange::ActivationLink>> Get(const std::string& address)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Entry {
    std::shared_ptr<exchange::ActivationLink> link;  // null until it was opened
    absl::Status error = absl::UnavailableError("its link is not open yet");
    absl::Time next_attempt = absl::InfinitePast();
  };
  class Graveyard;

  void Run();
  // Entries that want an attempt now; broken links among them are let go.
  std::vector<std::string> AddressesToOpen() ABSL_LOCKS_EXCLUDED(mutex_);
  // One attempt, on a thread of its own.
  void Open(const std::string& address) ABSL_LOCKS_EXCLUDED(mutex_);
  void JoinOpeners(bool all) ABSL_LOCKS_EXCLUDED(mutex_);

  const LinkPoolOptions options_;
  const std::shared_ptr<Graveyard> graveyard_;  // links whose last holder is gone
  mutable absl::Mutex mutex_;
  std::map<std::string, Entry> entries_ ABSL_GUARDED_BY(mutex_);  // by address
  std::vector<std::string> opened_ ABSL_GUARDED_BY(mutex_);       // whose threads are at their end
  bool wake_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<std::string, std::thread> openers_;  // by address; of thread_ alone
  std::thread thread_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_BACKBONE_LINK_POOL_H_
