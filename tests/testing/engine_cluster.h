// SPDX-License-Identifier: Apache-2.0
// An engine with real experts in one process: the golden backbone, expert hosts on their threads,
// a FakeLink before each of them.
#ifndef CCOE_TESTS_TESTING_ENGINE_CLUSTER_H_
#define CCOE_TESTS_TESTING_ENGINE_CLUSTER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "runtime/base/parallel.h"
#include "runtime/engine/engine.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/experts/unit_host.h"
#include "tests/testing/fake_link.h"
#include "tests/testing/recording_sink.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::testing {

// The golden checkpoint `name` as a backbone that holds layers [0, held_layers); all with -1.
// `device` (may be null: the host's memory) holds the weights.
absl::StatusOr<engine::BackboneModel> GoldenBackbone(const std::string& name,
                                                     int32_t held_layers = -1,
                                                     TaggedDevice* device = nullptr);

// The weights as ops over `device` (may be null) read them, and such ops.
std::shared_ptr<const model::Weights> WeightsOn(TaggedDevice* device,
                                                std::shared_ptr<const model::Weights> weights);
std::unique_ptr<kernels::Ops> OpsOver(TaggedDevice* device, ThreadTeam* team);

// Makes a link to a worker's handler.
using ConnectFunction =
    std::function<std::unique_ptr<exchange::ActivationLink>(exchange::SwapHandler* handler)>;

// Experts by name, all at version 1, each on one worker or more. Thread-safe.
class MapDirectory final : public engine::ExpertDirectory {
 public:
  // The first that was added.
  absl::StatusOr<std::shared_ptr<const engine::ExpertBinding>> Find(
      const ExpertRef& expert) override;
  absl::StatusOr<std::shared_ptr<const engine::ExpertBinding>> FindReplica(
      const engine::ExpertBinding& bound, const engine::LinkList& avoid) override;
  void Add(std::shared_ptr<const engine::ExpertBinding> binding);

 private:
  absl::Mutex mutex_;
  std::map<std::string, std::vector<std::shared_ptr<const engine::ExpertBinding>>> bindings_
      ABSL_GUARDED_BY(mutex_);
};

struct EngineClusterOptions {
  engine::EngineOptions engine;
  experts::UnitHostOptions expert;
  int expert_workers = 1;
  int32_t held_layers = -1;        // of the backbone
  TaggedDevice* device = nullptr;  // of the backbone and all workers; null: the CPU
  ConnectFunction connect;         // unset: a local link, for rows of host memory
};

class EngineCluster {
 public:
  // The ccoe/backbone of tests/golden, without experts yet.
  static absl::StatusOr<std::unique_ptr<EngineCluster>> Create(const EngineClusterOptions& options);
  // The engine goes first, then the links, then the hosts.
  ~EngineCluster();

  // Layers `layers` of the golden checkpoint ccoe/`source` as expert `name`, on worker `worker`,
  // which says that its numerics are `numerics`.
  absl::Status AddExpert(const std::string& name, const std::string& source,
                         model::LayerRange layers, int worker = 0,
                         const std::string& numerics = "cpu");

  engine::Engine& engine() { return *engine_; }
  FakeLink& link(int worker = 0) { return *links_[worker]; }
  experts::UnitHost& host(int worker = 0) { return *hosts_[worker]; }
  MapDirectory& directory() { return directory_; }

 private:
  EngineCluster() = default;

  TaggedDevice* device_ = nullptr;
  int64_t expert_kv_tokens_ = 0;
  std::unique_ptr<ThreadTeam> team_;
  engine::BackboneModel backbone_;
  std::vector<std::unique_ptr<experts::UnitHost>> hosts_;
  std::vector<std::shared_ptr<FakeLink>> links_;
  MapDirectory directory_;
  std::unique_ptr<engine::Engine> engine_;
};

// A greedy query that does not stop before `max_tokens`.
engine::EngineRequest GreedyQuery(const std::vector<int32_t>& prompt, const std::string& expert,
                                  int64_t max_tokens = 32);

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_ENGINE_CLUSTER_H_
