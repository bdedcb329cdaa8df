// SPDX-License-Identifier: Apache-2.0
// How the emulated device says what a kernel did wrong: a line of what, a line of where, and the
// end of the process.
#ifndef CCOE_TESTS_KERNELS_CUDA_EMULATION_REPORT_H_
#define CCOE_TESTS_KERNELS_CUDA_EMULATION_REPORT_H_

#include <string>

namespace ccoe::emulation {

// Prints `what` and, while a kernel runs, its name, block and thread; aborts.
[[noreturn]] void Fault(const std::string& what);

// From now on a crash of a kernel on this thread is told as a Fault is: memory that is not there,
// and what the compiler's checks find (an index beyond its array, a misaligned pointer, an
// overflow).
void ReportCrashes();

}  // namespace ccoe::emulation

#endif  // CCOE_TESTS_KERNELS_CUDA_EMULATION_REPORT_H_
