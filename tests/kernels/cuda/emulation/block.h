// SPDX-License-Identifier: Apache-2.0
// Runs the blocks of a launch one after another, each thread of a block a fiber. A thread runs
// until it has to wait for others; who goes on then is CurrentOrder's choice.
#ifndef CCOE_TESTS_KERNELS_CUDA_EMULATION_BLOCK_H_
#define CCOE_TESTS_KERNELS_CUDA_EMULATION_BLOCK_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <source_location>
#include <string>
#include <vector>

#include "tests/kernels/cuda/emulation/fiber.h"

namespace ccoe::emulation {

constexpr int kLanes = 32;
constexpr unsigned kMostThreads = 1024;
constexpr size_t kMostSharedBytes = 227 << 10;  // dynamic, of a block, on a device of 9.0
constexpr size_t kMostParamsBytes = 4096;

struct KernelLaunch {
  const void* kernel = nullptr;
  dim3 grid, block;
  size_t shared_bytes = 0;
  std::vector<char> params;  // the one struct, by value
};

// Runs the whole grid. One thread at a time may call this. Ends the process (report.h) at the first
// thing that a kernel does wrong.
void RunGrid(const KernelLaunch& launch);

// What the lanes of a warp do together. `run` gets what each lane of `mask` brought, null for the
// others; null where they only meet.
struct WarpCall {
  void (*run)(void* const* lanes, uint32_t mask);
  uint32_t mask;
  const char* what;
  const std::source_location* site;
};

class Block {
 public:
  Block();

  void RunGrid(const KernelLaunch& launch);

  // The rest is called by the thread that runs.

  // __syncthreads: all threads that have not ended have to come, to the same line. How many of them
  // counted.
  int Barrier(bool counted, const std::source_location& site);
  // All lanes of call.mask have to come, to the same line.
  void Collect(const WarpCall& call, void* lane);

  // cp.async of 16 bytes: they are copied when they must have been, until then the place is
  // poisoned.
  void CopyLater(void* to, const void* from, bool valid);
  void CommitCopies();
  void WaitForCopies(int groups_left);

  char* shared() const { return shared_; }
  unsigned thread() const { return running_; }
  std::string WhereIsRunning() const;

 private:
  enum class State : uint8_t { kReady, kAtBarrier, kInWarp, kEnded };
  struct Copy {
    void* to;
    const void* from;
    bool valid;
    int group;
  };
  struct Thread {
    State state = State::kEnded;
    const std::source_location* site = nullptr;  // where it waits
    const char* what = nullptr;
    int counted = 0;  // the result of the barrier
    std::vector<Copy> copies;
    int groups = 0;  // committed
    uint3 index = {};
    std::unique_ptr<Fiber> fiber;
  };
  struct Warp {
    WarpCall call = {};
    uint32_t arrived = 0;
    uint32_t ended = 0;
    void* lanes[kLanes] = {};
  };

  void Begin(uint64_t index);
  void Run();
  bool RunWarp(unsigned warp, bool backward);  // false where no thread of it could
  bool RunShuffled();
  void Resume(unsigned thread);
  void RunThread();  // on its fiber
  void Wait(State state, const char* what, const std::source_location& site);
  void OpenBarrierIfAllCame();
  void RunWarpIfAllCame(unsigned warp);
  [[noreturn]] void ReportStuck() const;
  std::string WhereWaits(unsigned thread) const;

  const KernelLaunch* launch_ = nullptr;
  char* shared_pages_ = nullptr;
  char* shared_ = nullptr;  // ends where a page begins that is not there
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  unsigned count_ = 0;  // of threads
  unsigned live_ = 0, at_barrier_ = 0, counted_ = 0;
  unsigned running_ = kMostThreads;  // none
  std::mt19937 random_;
};

// Of the launch that runs.
Block& CurrentBlock();

// "kernel K, block (x, y, z), thread (x, y, z)"; empty where none runs.
std::string RunningThread();

}  // namespace ccoe::emulation

#endif  // CCOE_TESTS_KERNELS_CUDA_EMULATION_BLOCK_H_
