// SPDX-License-Identifier: Apache-2.0
// A thread of execution that runs when it is told to and stops when it says so.
#ifndef CCOE_TESTS_KERNELS_CUDA_EMULATION_FIBER_H_
#define CCOE_TESTS_KERNELS_CUDA_EMULATION_FIBER_H_

#include <setjmp.h>

#include <cstddef>

namespace ccoe::emulation {

// Runs main(argument) again and again on a stack of its own; between two runs it yields. All calls
// come from one thread at a time. A stack that overflows crashes.
class Fiber {
 public:
  Fiber(void (*main)(void*), void* argument);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Runs until the fiber yields.
  void Resume();
  // Called on the fiber: back to who resumed it.
  void Yield();

 private:
  static constexpr size_t kStackBytes = size_t{128} << 10;

  void Enter();
  static void Loop(unsigned high, unsigned low);

  void (*const main_)(void*);
  void* const argument_;
  char* stack_ = nullptr;
  bool entered_ = false;
  // makecontext begins a fiber; jumps go on, as they make no system calls.
  jmp_buf inside_, outside_;
};

}  // namespace ccoe::emulation

#endif  // CCOE_TESTS_KERNELS_CUDA_EMULATION_FIBER_H_
