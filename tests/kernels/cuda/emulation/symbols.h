// SPDX-License-Identifier: Apache-2.0
// What the program's own symbol table knows of kernels. A kernel's .cu file is compiled into the
// program itself, not into a shared library; where it is not, or the table was stripped, nothing is
// found.
#ifndef CCOE_TESTS_KERNELS_CUDA_EMULATION_SYMBOLS_H_
#define CCOE_TESTS_KERNELS_CUDA_EMULATION_SYMBOLS_H_

#include <cstddef>
#include <string>
#include <vector>

namespace ccoe::emulation {

struct Variable {
  char* data;
  size_t bytes;
};

// The kernel's name as C++ has it; its address where there is none.
std::string KernelName(const void* kernel);

// The static variables that the kernel itself declares: its __shared__ ones.
std::vector<Variable> SharedVariables(const void* kernel);

}  // namespace ccoe::emulation

#endif  // CCOE_TESTS_KERNELS_CUDA_EMULATION_SYMBOLS_H_
