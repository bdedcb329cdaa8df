// SPDX-License-Identifier: Apache-2.0
// A shared library that is opened when it is first asked for, and stays.
#ifndef CCOE_KERNELS_CUDA_DYNAMIC_DYNAMIC_LIBRARY_H_
#define CCOE_KERNELS_CUDA_DYNAMIC_DYNAMIC_LIBRARY_H_

#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace ccoe::kernels {

// Thread-safe.
class DynamicLibrary {
 public:
  // `file` is what the linker would need, as "libnccl.so.2"; `title` is what users call it;
  // `needed` are functions without which it is of no use. Not for a process with AddressSanitizer,
  // which forbids RTLD_DEEPBIND.
  DynamicLibrary(const char* title, const char* file, absl::Span<const char* const> needed = {});
  DynamicLibrary(const DynamicLibrary&) = delete;
  DynamicLibrary& operator=(const DynamicLibrary&) = delete;

  // FAILED_PRECONDITION: "<title>: <file> cannot be opened: ...", or which function it lacks.
  const absl::Status& status() const { return status_; }

  // Null where the library, or the function in it, is missing.
  void* Find(const char* function) const;

 private:
  absl::Status status_;
  void* handle_ = nullptr;
};

// Calls `kFunction` (whose own definition this is called from) as the library has it; `missing`
// where it has not.
template <auto kFunction, class Result, class... Arguments>
Result CallIn(const DynamicLibrary& library, const char* name, Result missing,
              Arguments... arguments) {
  static const auto function = reinterpret_cast<decltype(kFunction)>(library.Find(name));
  return function == nullptr ? missing : function(arguments...);
}

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_DYNAMIC_DYNAMIC_LIBRARY_H_
