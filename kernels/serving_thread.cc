// SPDX-License-Identifier: Apache-2.0
#include "kernels/serving_thread.h"

#include <atomic>

namespace ccoe::kernels {
namespace {

thread_local bool serving = false;
std::atomic<int64_t> allocations = 0;

}  // namespace

ServingThread::ServingThread() { serving = true; }
ServingThread::~ServingThread() { serving = false; }
bool ServingThread::here() { return serving; }

void NoteAllocation() {
  if (serving) allocations.fetch_add(1, std::memory_order_relaxed);
}

int64_t AllocationsWhileServing() { return allocations.load(std::memory_order_relaxed); }

}  // namespace ccoe::kernels
