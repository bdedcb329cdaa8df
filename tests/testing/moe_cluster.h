// SPDX-License-Identifier: Apache-2.0
// An engine over a golden mixture-of-experts checkpoint in one process, with its FFN experts on
// hosts behind FakeLinks.
#ifndef CCOE_TESTS_TESTING_MOE_CLUSTER_H_
#define CCOE_TESTS_TESTING_MOE_CLUSTER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "runtime/base/parallel.h"
#include "runtime/engine/engine.h"
#include "runtime/experts/unit_host.h"
#include "tests/testing/engine_cluster.h"
#include "tests/testing/fake_link.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::testing {

// A table that a test may change. Thread-safe.
class MutableFfnDirectory final : public engine::FfnDirectory {
 public:
  std::shared_ptr<const engine::FfnTable> Table() override {
    absl::MutexLock lock(&mutex_);
    return table_;
  }
  void Set(std::shared_ptr<const engine::FfnTable> table) {
    absl::MutexLock lock(&mutex_);
    table_ = std::move(table);
    ++epoch_;
  }
  uint64_t epoch() const override { return epoch_; }

 private:
  std::atomic<uint64_t> epoch_ = 1;
  absl::Mutex mutex_;
  std::shared_ptr<const engine::FfnTable> table_ ABSL_GUARDED_BY(mutex_) =
      std::make_shared<engine::FfnTable>();
};

struct MoeClusterOptions {
  std::string model = "mixtral-8x2";
  engine::EngineOptions engine;
  TaggedDevice* device = nullptr;  // of the backbone and all workers; null: the CPU
  int workers = 0;                 // 0: all experts are with the backbone
  // The workers that hold an expert (FfnTable::kHere: the backbone). Unset: expert % workers.
  std::function<std::vector<int32_t>(int32_t layer, int32_t expert)> holders;
  ConnectFunction connect;  // unset: local links, for rows of host memory
};

class MoeCluster {
 public:
  static absl::StatusOr<std::unique_ptr<MoeCluster>> Create(const MoeClusterOptions& options);
  // The engine goes first, then the links, then the hosts.
  ~MoeCluster();

  engine::Engine& engine() { return *engine_; }
  FakeLink& link(int worker) { return *links_[static_cast<size_t>(worker)]; }
  experts::UnitHost& host(int worker) { return *hosts_[static_cast<size_t>(worker)]; }
  MutableFfnDirectory& directory() { return directory_; }

 private:
  MoeCluster() = default;

  std::unique_ptr<ThreadTeam> team_;
  engine::BackboneModel backbone_;
  std::vector<std::unique_ptr<experts::UnitHost>> hosts_;
  std::vector<std::shared_ptr<FakeLink>> links_;
  MutableFfnDirectory directory_;
  std::unique_ptr<engine::Engine> engine_;
};

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_MOE_CLUSTER_H_
