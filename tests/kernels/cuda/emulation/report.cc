// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/cuda/emulation/report.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <cstdint>
#include <vector>

#include "absl/strings/str_format.h"
#include "tests/kernels/cuda/emulation/block.h"

namespace ccoe::emulation {
namespace {

void Print(const std::string& what) {
  const std::string where = RunningThread();
  fprintf(stderr, "emulated GPU: %s\n%s", what.c_str(),
          where.empty() ? "" : ("  " + where + "\n").c_str());
}

void OnSignal(int number, siginfo_t* info, void*) {
  if (!RunningThread().empty()) {
    if (number == SIGILL || number == SIGTRAP) {
      Print("an index beyond its array, a misaligned pointer or an overflow");
    } else {
      Print(absl::StrFormat("memory that is not there, or misaligned, at %p", info->si_addr));
    }
  }
  signal(number, SIG_DFL);
  raise(number);
}

}  // namespace

void Fault(const std::string& what) {
  Print(what);
  abort();
}

void ReportCrashes() {
  // A fiber whose stack is full needs another one for the handler.
  static thread_local std::vector<char> stack;
  if (!stack.empty()) return;
  stack.resize(64 << 10);
  const stack_t other = {stack.data(), 0, stack.size()};
  sigaltstack(&other, nullptr);
  struct sigaction action = {};
  action.sa_sigaction = OnSignal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (int number : {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE}) sigaction(number, &action, nullptr);
}

}  // namespace ccoe::emulation
