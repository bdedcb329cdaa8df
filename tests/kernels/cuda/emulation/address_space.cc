// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/cuda/emulation/address_space.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/kernels/cuda/emulation/report.h"
#include "tests/kernels/cuda/emulation/symbols.h"

namespace ccoe::emulation {
namespace {

// Of programs, libraries, heaps and stacks.
constexpr uintptr_t kHostBase = 0x500000000000, kHostEnd = 0x800000000000;

bool IsMapped(uintptr_t address) {
  const uintptr_t page = sysconf(_SC_PAGESIZE);
  unsigned char resident = 0;
  return mincore(reinterpret_cast<void*>(address / page * page), 1, &resident) == 0 ||
         errno != ENOMEM;
}

}  // namespace

void CheckNoHostPointers(const KernelLaunch& launch) {
  for (size_t at = 0; at + sizeof(uintptr_t) <= launch.params.size(); at += sizeof(uintptr_t)) {
    uintptr_t word = 0;
    std::memcpy(&word, launch.params.data() + at, sizeof(word));
    const bool pinned = word >= kPinnedBase && word < kPinnedBase + kPinnedRange;
    if (pinned || (word >= kHostBase && word < kHostEnd && IsMapped(word))) {
      Fault(absl::StrCat("kernel ", KernelName(launch.kernel), ": host memory at byte ", at,
                         " of its parameters: ", absl::Hex(word)));
    }
  }
}

}  // namespace ccoe::emulation
