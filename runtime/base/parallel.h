// SPDX-License-Identifier: Apache-2.0
// Data parallelism over cores for the CPU kernels and for loading.
#ifndef CCOE_RUNTIME_BASE_PARALLEL_H_
#define CCOE_RUNTIME_BASE_PARALLEL_H_

#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/synchronization/mutex.h"

namespace ccoe {

// A fixed team of threads that runs one loop at a time. The caller takes part, so a team of 1 has
// no thread of its own and runs inline. Several threads may call Run at once: their loops take
// turns.
class ThreadTeam {
 public:
  // `threads` >= 1, the caller of Run included; 0 takes all the cores this process may use.
  explicit ThreadTeam(int threads = 0);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(task) once for every task in [0, tasks), in any order and on any thread of the team;
  // returns when all have returned. `body` must not call Run of the same team. Which thread runs
  // which task must not matter to the result: the kernels cut work by output elements only.
  void Run(int64_t tasks, absl::FunctionRef<void(int64_t task)> body)
      ABSL_LOCKS_EXCLUDED(run_mutex_);

 private:
  struct Loop;
  void WorkerMain(int index);

  absl::Mutex run_mutex_;  // held for a whole Run: loops take turns
  std::unique_ptr<Loop> loop_;
  std::vector<std::thread> workers_;
};

// Cores this process may run on (affinity mask and cgroup quota respected); at least 1.
int AvailableCores();

}  // namespace ccoe

#endif  // CCOE_RUNTIME_BASE_PARALLEL_H_
