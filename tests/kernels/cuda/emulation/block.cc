// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/cuda/emulation/block.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/base/check.h"
#include "tests/kernels/cuda/emulation/invoke.h"
#include "tests/kernels/cuda/emulation/order.h"
#include "tests/kernels/cuda/emulation/poison.h"
#include "tests/kernels/cuda/emulation/report.h"
#include "tests/kernels/cuda/emulation/symbols.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace ccoe::emulation {
namespace {

constexpr size_t kSharedPages = 256 << 10;
constexpr size_t kGuardBytes = 64 << 10;

Block* current = nullptr;

uint3 IndexIn(const dim3& size, uint64_t i) {
  return {static_cast<unsigned>(i % size.x), static_cast<unsigned>(i / size.x % size.y),
          static_cast<unsigned>(i / size.x / size.y)};
}

std::string Text(const uint3& index) {
  return absl::StrFormat("(%d, %d, %d)", index.x, index.y, index.z);
}

}  // namespace

Block& CurrentBlock() { return *current; }

std::string RunningThread() { return current == nullptr ? "" : current->WhereIsRunning(); }

void RunGrid(const KernelLaunch& launch) {
  static Block* const block = new Block;
  block->RunGrid(launch);
}

Block::Block() : threads_(kMostThreads), warps_(kMostThreads / kLanes) {
  shared_pages_ =
      static_cast<char*>(mmap(nullptr, kSharedPages + kGuardBytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  CCOE_CHECK(shared_pages_ != MAP_FAILED);
  CCOE_CHECK(mprotect(shared_pages_ + kSharedPages, kGuardBytes, PROT_NONE) == 0);
}

std::string Block::WhereIsRunning() const {
  std::string where =
      absl::StrCat("kernel ", KernelName(launch_->kernel), ", block ", Text(blockIdx));
  if (running_ < count_) absl::StrAppend(&where, ", thread ", Text(threads_[running_].index));
  return where;
}

void Block::RunGrid(const KernelLaunch& launch) {
  ReportCrashes();
  launch_ = &launch;
  gridDim = launch.grid;
  blockDim = launch.block;
  count_ = launch.block.x * launch.block.y * launch.block.z;
  shared_ = shared_pages_ + kSharedPages - (launch.shared_bytes + 15) / 16 * 16;
  current = this;
  for (unsigned t = 0; t < count_; ++t) {
    Thread& thread = threads_[t];
    thread.index = IndexIn(launch.block, t);
    if (thread.fiber == nullptr) {
      const auto main = [](void* block) { static_cast<Block*>(block)->RunThread(); };
      thread.fiber = std::make_unique<Fiber>(main, this);
    }
  }
  const Order order = CurrentOrder();
  random_.seed(order.seed);
  const uint64_t blocks = uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  std::vector<uint64_t> indices(blocks);
  std::iota(indices.begin(), indices.end(), 0);
  if (order.kind == OrderKind::kBackward) std::reverse(indices.begin(), indices.end());
  if (order.kind == OrderKind::kRandom) std::shuffle(indices.begin(), indices.end(), random_);
  const std::vector<Variable> variables = SharedVariables(launch.kernel);
  for (uint64_t index : indices) {
    for (const Variable& variable : variables) Poison(variable.data, variable.bytes);
    Begin(index);
    Run();
  }
  current = nullptr;
}

void Block::Begin(uint64_t index) {
  blockIdx = IndexIn(launch_->grid, index);
  Poison(shared_, launch_->shared_bytes);
  for (unsigned t = 0; t < count_; ++t) {
    threads_[t].state = State::kReady;
    threads_[t].copies.clear();
    threads_[t].groups = 0;
  }
  for (unsigned w = 0; w * kLanes < count_; ++w) {
    warps_[w].arrived = 0;
    const unsigned lanes = std::min<unsigned>(kLanes, count_ - w * kLanes);
    warps_[w].ended = lanes == kLanes ? 0 : ~0u << lanes;
  }
  live_ = count_;
  at_barrier_ = counted_ = 0;
}

void Block::Run() {
  const Order order = CurrentOrder();
  const bool backward = order.kind == OrderKind::kBackward;
  const unsigned warps = (count_ + kLanes - 1) / kLanes;
  while (live_ > 0) {
    bool moved = false;
    if (order.kind == OrderKind::kRandom) {
      moved = RunShuffled();
    } else {
      for (unsigned w = 0; w < warps; ++w) {
        while (RunWarp(backward ? warps - 1 - w : w, backward)) moved = true;
      }
    }
    if (!moved) ReportStuck();
  }
}

bool Block::RunWarp(unsigned warp, bool backward) {
  bool moved = false;
  const unsigned begin = warp * kLanes, end = std::min(begin + kLanes, count_);
  for (unsigned i = begin; i < end; ++i) {
    const unsigned thread = backward ? begin + end - 1 - i : i;
    if (threads_[thread].state != State::kReady) continue;
    Resume(thread);
    moved = true;
  }
  return moved;
}

bool Block::RunShuffled() {
  std::vector<unsigned> ready;
  for (unsigned t = 0; t < count_; ++t) {
    if (threads_[t].state == State::kReady) ready.push_back(t);
  }
  std::shuffle(ready.begin(), ready.end(), random_);
  for (unsigned thread : ready) Resume(thread);
  return !ready.empty();
}

void Block::Resume(unsigned thread) {
  running_ = thread;
  threadIdx = threads_[thread].index;
  threads_[thread].fiber->Resume();
  running_ = kMostThreads;
}

void Block::RunThread() {
  Invoke(launch_->kernel, launch_->params);
  Thread& thread = threads_[running_];
  thread.state = State::kEnded;
  --live_;
  warps_[running_ / kLanes].ended |= 1u << running_ % kLanes;
  OpenBarrierIfAllCame();
  RunWarpIfAllCame(running_ / kLanes);
}

void Block::Wait(State state, const char* what, const std::source_location& site) {
  Thread& thread = threads_[running_];
  thread.state = state;
  thread.what = what;
  thread.site = &site;
}

int Block::Barrier(bool counted, const std::source_location& site) {
  const unsigned thread = running_;
  Wait(State::kAtBarrier, "__syncthreads", site);
  ++at_barrier_;
  counted_ += counted ? 1 : 0;
  OpenBarrierIfAllCame();
  threads_[thread].fiber->Yield();
  return threads_[thread].counted;
}

void Block::OpenBarrierIfAllCame() {
  if (at_barrier_ == 0 || at_barrier_ < live_) return;
  const Thread* first = nullptr;
  for (unsigned t = 0; t < count_; ++t) {
    Thread& thread = threads_[t];
    if (thread.state != State::kAtBarrier) continue;
    if (first == nullptr) first = &thread;
    if (thread.site->line() != first->site->line()) {
      Fault(absl::StrCat("a divergent barrier: ", WhereWaits(first - threads_.data()), "; ",
                         WhereWaits(t)));
    }
    thread.state = State::kReady;
    thread.counted = static_cast<int>(counted_);
  }
  at_barrier_ = counted_ = 0;
}

void Block::Collect(const WarpCall& call, void* lane) {
  const unsigned thread = running_, at = thread % kLanes;
  Warp& warp = warps_[thread / kLanes];
  Wait(State::kInWarp, call.what, *call.site);
  if ((call.mask >> at & 1) == 0) {
    Fault(absl::StrCat(call.what, " by a lane that its mask leaves out"));
  }
  if (warp.arrived == 0) {
    warp.call = call;
    std::fill(std::begin(warp.lanes), std::end(warp.lanes), nullptr);
  } else if (warp.call.run != call.run || warp.call.mask != call.mask ||
             warp.call.site->line() != call.site->line()) {
    Fault(absl::StrFormat("lanes of a warp meet at different places: %s:%d and %s:%d",
                          warp.call.what, warp.call.site->line(), call.what, call.site->line()));
  }
  warp.arrived |= 1u << at;
  warp.lanes[at] = lane;
  RunWarpIfAllCame(thread / kLanes);
  threads_[thread].fiber->Yield();
}

void Block::RunWarpIfAllCame(unsigned w) {
  Warp& warp = warps_[w];
  if (warp.arrived == 0) return;
  // A lane that has ended need not come to __syncwarp; all else has nothing to give without it.
  const uint32_t wanted = warp.call.run == nullptr ? warp.call.mask & ~warp.ended : warp.call.mask;
  if (warp.arrived != wanted) return;
  if (warp.call.run != nullptr) warp.call.run(warp.lanes, warp.call.mask);
  for (int lane = 0; lane < kLanes; ++lane) {
    if ((warp.arrived >> lane & 1) != 0) threads_[w * kLanes + lane].state = State::kReady;
  }
  warp.arrived = 0;
}

std::string Block::WhereWaits(unsigned thread) const {
  const Thread& t = threads_[thread];
  return absl::StrCat("thread ", Text(t.index), " waits in ", t.what, " at ", t.site->file_name(),
                      ":", t.site->line());
}

void Block::ReportStuck() const {
  std::string what = absl::StrCat("threads wait for others that never come (", count_ - live_,
                                  " of ", count_, " have ended): ");
  // One thread of each kind is enough to see what happened.
  const std::source_location* seen = nullptr;
  for (unsigned t = 0; t < count_; ++t) {
    const Thread& thread = threads_[t];
    if (thread.state == State::kEnded) continue;
    if (seen != nullptr && seen->line() == thread.site->line()) continue;
    absl::StrAppend(&what, seen == nullptr ? "" : "; ", WhereWaits(t));
    seen = thread.site;
  }
  Fault(what);
}

void Block::CopyLater(void* to, const void* from, bool valid) {
  if (reinterpret_cast<uintptr_t>(to) % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0) {
    Fault("cp.async: misaligned");
  }
  Thread& thread = threads_[running_];
  Poison(to, 16);
  thread.copies.push_back({to, from, valid, thread.groups});
}

void Block::CommitCopies() { ++threads_[running_].groups; }

void Block::WaitForCopies(int groups_left) {
  Thread& thread = threads_[running_];
  auto copy = thread.copies.begin();
  for (; copy != thread.copies.end() && copy->group < thread.groups - groups_left; ++copy) {
    if (copy->valid) {
      std::memcpy(copy->to, copy->from, 16);
    } else {
      std::memset(copy->to, 0, 16);
    }
  }
  thread.copies.erase(thread.copies.begin(), copy);
}

}  // namespace ccoe::emulation
