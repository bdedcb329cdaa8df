// Which experts there are and over which links their rows go: the engine's directories of layer
// experts and of FFN experts, fed by the router's directives.
#ifndef CCOE_SERVICES_BACKBONE_LINK_DIRECTORY_H_
#define CCOE_SERVICES_BACKBONE_LINK_DIRECTORY_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "ccoe/v1/control.pb.h"
#include "runtime/base/ids.h"
#include "runtime/engine/ffn_directory.h"
#include "runtime/engine/request.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/model/ffn_shard.h"
#include "runtime/model/head.h"
#include "runtime/model/model_spec.h"

namespace ccoe::services {

struct LinkDirectoryOptions {
  // Opens a link to the expert worker at an address; may block for some seconds. Called from
  // threads of the directory, for several addresses at once. Required.
  std::function<absl::StatusOr<std::unique_ptr<exchange::ActivationLink>>(
      const std::string& address)>
      open;
  // Fingerprint of this worker's base below a layer; may read the whole base. Called from the
  // directory's thread. Required.
  std::function<absl::StatusOr<std::string>(int32_t first_layer)> base_fingerprint;
  // Layers of the model; an expert outside is refused.
  int32_t layer_count = 0;
  // Heads of experts that bring their own, from their bundles.
  std::map<ExpertRef, std::shared_ptr<const model::LmHead>> own_heads;
  // Every FFN expert of the model, and those that are with this backbone worker.
  model::FfnShard ffn_experts, ffn_here;
  // Pause before a link that could not be opened, or broke, is opened again.
  absl::Duration retry = absl::Milliseconds(500);
  int max_opening = 64;  // links at once
};

// One link a worker, opened in the background and again after it broke; an address that does not
// answer delays no other. A query goes over the link that carries the fewest queries of those that
// lead to its expert. Links of workers that are no longer listed close when their last query has
// ended. Thread-safe.
class LinkDirectory final : public engine::ExpertDirectory, public engine::FfnDirectory {
 public:
  explicit LinkDirectory(LinkDirectoryOptions options);
  // Queries may still hold bindings; they keep their links.
  ~LinkDirectory() override;

  // Takes the table of a directive; returns at once.
  void Update(const v1::Directive& directive) ABSL_LOCKS_EXCLUDED(mutex_);

  // NOT_FOUND lists the experts there are; UNAVAILABLE says why no link to one works;
  // FAILED_PRECONDITION for an expert of another base, or one whose own head this worker does not
  // have.
  absl::StatusOr<std::shared_ptr<const engine::ExpertBinding>> Find(
      const ExpertRef& expert) override ABSL_LOCKS_EXCLUDED(mutex_);

  // Workers whose links work now; another table as soon as one breaks. Its epoch is this
  // directory's own.
  std::shared_ptr<const engine::FfnTable> Table() override ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Place {
    v1::ExpertPlace table;
    absl::Status fits;  // UNAVAILABLE until it was checked
    std::shared_ptr<const model::LmHead> own_head;
  };
  struct FfnPlace {
    std::string address;
    model::FfnShard shard;
  };
  struct Peer {
    std::shared_ptr<exchange::ActivationLink> link;  // null until it was opened
    std::shared_ptr<std::atomic<int64_t>> queries;
    absl::Status error = absl::UnavailableError("its link is not open yet");
    absl::Time next_attempt = absl::InfinitePast();
  };

  void Run();
  absl::Status CheckFits(const v1::ExpertPlace& place) const;
  void CheckPlaces() ABSL_LOCKS_EXCLUDED(mutex_);
  void UpdateExperts(const v1::Directive& directive) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void UpdateFfnPlaces(const v1::Directive& directive) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Forgets the peers that no place leads to, adds those that are new.
  void UpdatePeers() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RebuildTable() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Starts a thread for every address that wants an attempt now.
  void OpenLinks() ABSL_LOCKS_EXCLUDED(mutex_);
  // One attempt, on a thread of its own.
  void OpenLink(const std::string& address) ABSL_LOCKS_EXCLUDED(mutex_);
  void JoinOpeners(bool all) ABSL_LOCKS_EXCLUDED(mutex_);
  // Destroys retired links that no query uses any more. A link joins threads of its own when it
  // closes, so this is not left to the engine's thread.
  void CloseRetired() ABSL_LOCKS_EXCLUDED(mutex_);
  void Retire(Peer& peer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Peers that want an attempt now.
  std::vector<std::string> AddressesToOpen() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<const Place*> FindPlace(const ExpertRef& expert) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<Peer*> ChoosePeer(const Place& place) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const LinkDirectoryOptions options_;
  mutable absl::Mutex mutex_;
  std::map<ExpertRef, Place> places_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, FfnPlace> ffn_places_ ABSL_GUARDED_BY(mutex_);  // by worker id
  // What workers held that are no longer listed, for messages.
  std::map<std::string, model::FfnShard> ffn_left_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Peer> peers_ ABSL_GUARDED_BY(mutex_);  // by address
  std::shared_ptr<const engine::FfnTable> table_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> opened_ ABSL_GUARDED_BY(mutex_);  // whose threads are at their end
  std::vector<std::shared_ptr<exchange::ActivationLink>> retired_ ABSL_GUARDED_BY(mutex_);
  bool changed_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<std::string, std::thread> openers_;  // by address; of thread_ alone
  std::thread thread_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_BACKBONE_LINK_DIRECTORY_H_
