// SPDX-License-Identifier: Apache-2.0
// Which experts there are and on which workers: the engine's directories of layer experts and of
// FFN experts, fed by the router's directives.
#ifndef CCOE_SERVICES_BACKBONE_EXPERT_TABLE_H_
#define CCOE_SERVICES_BACKBONE_EXPERT_TABLE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "ccoe/v1/control.pb.h"
#include "runtime/base/ids.h"
#include "runtime/engine/directory.h"
#include "runtime/model/ffn_shard.h"
#include "runtime/model/head.h"
#include "runtime/model/model_spec.h"
#include "services/backbone/link_pool.h"

namespace ccoe::services {

struct ExpertTableOptions {
  LinkPoolOptions links;  // without on_change
  // Fingerprint of this worker's base below a layer; may read the whole base. Called from the
  // table's thread. Required.
  std::function<absl::StatusOr<std::string>(int32_t first_layer)> base_fingerprint;
  // The class of this worker's own bits; see exchange::LinkPeer.
  std::string numerics;
  // Layers of the model; an expert outside is refused.
  int32_t layer_count = 0;
  // Heads of experts that bring their own, from their bundles.
  std::map<ExpertRef, std::shared_ptr<const model::LmHead>> own_heads;
  // Every FFN expert of the model, and those that are with this backbone worker.
  model::FfnShard ffn_experts, ffn_here;
};

// A query goes over the link that carries the fewest queries of those that lead to its expert, to a
// worker of the numerics it began with where one is left. Thread-safe.
class ExpertTable final : public engine::ExpertDirectory, public engine::FfnDirectory {
 public:
  explicit ExpertTable(ExpertTableOptions options);
  // Queries may still hold bindings; they keep their links.
  ~ExpertTable() override;

  // Takes the table of a directive; returns at once.
  void Update(const v1::Directive& directive) ABSL_LOCKS_EXCLUDED(mutex_);

  // NOT_FOUND lists the experts there are; FAILED_PRECONDITION for an expert of another base, or
  // one whose own head this worker does not have.
  absl::StatusOr<std::shared_ptr<const engine::ExpertBinding>> Find(
      const ExpertRef& expert) override ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<std::shared_ptr<const engine::ExpertBinding>> FindReplica(
      const engine::ExpertBinding& bound, const engine::LinkList& avoid) override
      ABSL_LOCKS_EXCLUDED(mutex_);

  uint64_t epoch() const override { return epoch_.load(); }
  // Workers whose links work now.
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
  // A worker that could take a query.
  struct Candidate {
    const v1::WorkerPlace* worker = nullptr;
    std::shared_ptr<exchange::ActivationLink> link;
    int64_t rank = 0;  // less is better: queries on its way
  };

  void Run();
  absl::Status CheckFits(const v1::ExpertPlace& place) const;
  void CheckPlaces() ABSL_LOCKS_EXCLUDED(mutex_);
  void UpdateExperts(const v1::Directive& directive) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void UpdateFfnPlaces(const v1::Directive& directive) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void UpdateAddresses() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RebuildTable() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<const Place*> FindPlace(const ExpertRef& expert) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static engine::ExpertBinding WithoutWorker(const Place& place);
  // The best worker of a place by `rank` (negative: none), with a link that works and a KV cache of
  // at least `kv_tokens`; UNAVAILABLE says why there is none.
  absl::StatusOr<std::shared_ptr<const engine::ExpertBinding>> Bind(
      const Place& place, int64_t kv_tokens, absl::FunctionRef<int64_t(const Candidate&)> rank)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const ExpertTableOptions options_;
  mutable absl::Mutex mutex_;
  std::map<ExpertRef, Place> places_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, FfnPlace> ffn_places_ ABSL_GUARDED_BY(mutex_);  // by worker id
  // What workers held that are no longer listed, for messages.
  std::map<std::string, model::FfnShard> ffn_left_ ABSL_GUARDED_BY(mutex_);
  // Queries bound to each address, counted until they end.
  std::map<std::string, std::shared_ptr<std::atomic<int64_t>>> queries_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const engine::FfnTable> table_ ABSL_GUARDED_BY(mutex_);
  std::atomic<uint64_t> epoch_ = 0;  // of table_
  bool unchecked_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::unique_ptr<LinkPool> links_;
  std::thread thread_;  // checks whether experts fit
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_BACKBONE_EXPERT_TABLE_H_
