// SPDX-License-Identifier: Apache-2.0
#include "runtime/base/parallel.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <fstream>
#include <string>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ccoe {
namespace {

// A waiting worker spins this often before it sleeps: a decode step calls Run hundreds of times, a
// few microseconds apart, and a futex wake-up for each would cost more than many of the loops.
constexpr int kSpins = 4000;

void Pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

// The cgroup v2 quota in cores, or a large number where there is none.
double CgroupCores() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return 1e9;
  return std::max(1.0, std::floor(std::atof(quota.c_str()) / period));
}

}  // namespace

int AvailableCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int cores = 1;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) cores = std::max(1, CPU_COUNT(&set));
  return static_cast<int>(std::min<double>(cores, CgroupCores()));
}

// What the team shares. A loop is published by raising `epoch`; every worker acknowledges each
// epoch, so the caller never returns (and `body` never dies) while a worker may still look at it.
struct ThreadTeam::Loop {
  std::atomic<uint64_t> epoch{0};
  std::atomic<int64_t> next{0};
  std::atomic<int> busy{0};
  std::atomic<bool> stop{false};
  int64_t tasks = 0;
  const absl::FunctionRef<void(int64_t)>* body = nullptr;
  absl::Mutex mutex;
  absl::CondVar wake;
  int sleepers ABSL_GUARDED_BY(mutex) = 0;

  void Drain() {
    for (int64_t task = next.fetch_add(1); task < tasks; task = next.fetch_add(1)) (*body)(task);
  }

  // Waits until epoch differs from `seen`.
  void AwaitEpoch(uint64_t seen) {
    for (int spin = 0; spin < kSpins; ++spin) {
      if (epoch.load(std::memory_order_acquire) != seen) return;
      Pause();
    }
    absl::MutexLock lock(&mutex);
    ++sleepers;
    while (epoch.load(std::memory_order_acquire) == seen) wake.Wait(&mutex);
    --sleepers;
  }

  void Publish() {
    absl::MutexLock lock(&mutex);
    epoch.fetch_add(1, std::memory_order_release);
    if (sleepers > 0) wake.SignalAll();
  }
};

ThreadTeam::ThreadTeam(int threads) : loop_(std::make_unique<Loop>()) {
  if (threads <= 0) threads = AvailableCores();
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { WorkerMain(i); });
}

ThreadTeam::~ThreadTeam() {
  loop_->stop.store(true);
  loop_->Publish();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadTeam::WorkerMain(int index) {
  uint64_t seen = 0;
  while (true) {
    loop_->AwaitEpoch(seen);
    ++seen;
    if (loop_->stop.load()) return;
    loop_->Drain();
    loop_->busy.fetch_sub(1, std::memory_order_release);
  }
}

void ThreadTeam::Run(int64_t tasks, absl::FunctionRef<void(int64_t)> body) {
  if (tasks <= 0) return;
  if (workers_.empty() || tasks == 1) {
    for (int64_t task = 0; task < tasks; ++task) body(task);
    return;
  }
  absl::MutexLock lock(&run_mutex_);
  loop_->tasks = tasks;
  loop_->body = &body;
  loop_->next.store(0);
  loop_->busy.store(static_cast<int>(workers_.size()));
  loop_->Publish();
  loop_->Drain();
  for (int spin = 0; loop_->busy.load(std::memory_order_acquire) != 0; ++spin) {
    if (spin < kSpins) {
      Pause();
    } else {
      std::this_thread::yield();
    }
  }
}

}  // namespace ccoe
