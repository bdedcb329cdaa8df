// SPDX-License-Identifier: Apache-2.0
// The instruction set is the one that Highway runs the kernels with: the width of a vector says how
// sums over K are shared by its lanes. The C library is named since the gate's exponentials are
// its own.
#include "kernels/cpu/numerics_class.h"

#include <gnu/libc-version.h>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "kernels/numerics_class.h"

// The order of these matters.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/numerics_class.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace ccoe::kernels {
namespace HWY_NAMESPACE {

const char* TargetOfKernels() { return hwy::TargetName(HWY_TARGET); }

}  // namespace HWY_NAMESPACE
}  // namespace ccoe::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ccoe::kernels {

HWY_EXPORT(TargetOfKernels);

std::string CpuNumericsClass() {
  const char* target = HWY_DYNAMIC_DISPATCH(TargetOfKernels)();
  return absl::StrCat("cpu/", absl::AsciiStrToLower(target), "/k", kCpuKernelSet, "/f32/glibc-",
                      gnu_get_libc_version());
}

}  // namespace ccoe::kernels
#endif  // HWY_ONCE
