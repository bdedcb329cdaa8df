// SPDX-License-Identifier: Apache-2.0
// Serving takes no device memory: all of it is taken when a worker starts. What is allocated by a
// thread that serves shows that a plan was too small; it works, and is counted.
#ifndef CCOE_KERNELS_SERVING_THREAD_H_
#define CCOE_KERNELS_SERVING_THREAD_H_

#include <cstdint>

namespace ccoe::kernels {

// Marks the calling thread as one that serves, until it is destroyed on the same thread. Not
// nested.
class ServingThread {
 public:
  ServingThread();
  ~ServingThread();
  ServingThread(const ServingThread&) = delete;
  ServingThread& operator=(const ServingThread&) = delete;

  // Whether the calling thread is marked.
  static bool here();
};

// For whatever takes device memory: counts where the calling thread serves.
void NoteAllocation();

// Allocations of device memory by threads that serve, over the life of the process. Thread-safe.
int64_t AllocationsWhileServing();

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_SERVING_THREAD_H_
