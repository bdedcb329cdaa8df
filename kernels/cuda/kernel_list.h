// SPDX-License-Identifier: Apache-2.0
// All kernels that this program may launch, known before the first launch: each is listed where its
// launch is compiled (launch.h). So all can be loaded when a stream is made, none for the first
// time within a capture, and a check of a GPU can look at every one (tools/gpu_probe).
#ifndef CCOE_KERNELS_CUDA_KERNEL_LIST_H_
#define CCOE_KERNELS_CUDA_KERNEL_LIST_H_

#include <string>
#include <vector>

namespace ccoe::kernels {

struct KernelEntry {
  const void* kernel = nullptr;  // as the runtime knows it
  const char* spelled = "";  // how the compiler names a function of the kernel's, see KernelName
};

// In no particular order. Complete once main has begun.
const std::vector<KernelEntry>& ListedKernels();

// "TileKernel<kGated, 64, true, false>": without namespaces and parameters.
std::string KernelName(const KernelEntry& entry);

// Always true.
bool ListKernel(const void* kernel, const char* spelled);

template <auto kKernel>
struct ListedKernel {
  static const char* Spelled() { return __PRETTY_FUNCTION__; }
  static const bool kListed;
};
template <auto kKernel>
const bool ListedKernel<kKernel>::kListed = ListKernel(reinterpret_cast<const void*>(kKernel),
                                                       ListedKernel<kKernel>::Spelled());

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_KERNEL_LIST_H_
