// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/cuda/emulation/fiber.h"

#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdint>

#include "runtime/base/check.h"

namespace ccoe::emulation {

Fiber::Fiber(void (*main)(void*), void* argument) : main_(main), argument_(argument) {
  const size_t page = sysconf(_SC_PAGESIZE);
  void* memory = mmap(nullptr, kStackBytes + page, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CCOE_CHECK(memory != MAP_FAILED);
  stack_ = static_cast<char*>(memory);
  CCOE_CHECK(mprotect(stack_, page, PROT_NONE) == 0);
}

Fiber::~Fiber() { munmap(stack_, kStackBytes + sysconf(_SC_PAGESIZE)); }

void Fiber::Loop(unsigned high, unsigned low) {
  auto* fiber =
      reinterpret_cast<Fiber*>(static_cast<uintptr_t>(high) << 32 | static_cast<uintptr_t>(low));
  for (;;) {
    fiber->main_(fiber->argument_);
    fiber->Yield();
  }
}

void Fiber::Enter() {
  const auto self = reinterpret_cast<uintptr_t>(this);
  ucontext_t context;
  CCOE_CHECK(getcontext(&context) == 0);
  context.uc_stack.ss_sp = stack_ + sysconf(_SC_PAGESIZE);
  context.uc_stack.ss_size = kStackBytes;
  context.uc_link = nullptr;
  makecontext(&context, reinterpret_cast<void (*)()>(&Loop), 2, static_cast<unsigned>(self >> 32),
              static_cast<unsigned>(self));
  setcontext(&context);
}

void Fiber::Resume() {
  if (_setjmp(outside_) != 0) return;
  if (entered_) _longjmp(inside_, 1);
  entered_ = true;
  Enter();
}

void Fiber::Yield() {
  if (_setjmp(inside_) == 0) _longjmp(outside_, 1);
}

}  // namespace ccoe::emulation
