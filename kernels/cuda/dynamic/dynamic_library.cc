// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/dynamic/dynamic_library.h"

#include <dlfcn.h>

#include "absl/strings/str_cat.h"

namespace ccoe::kernels {

DynamicLibrary::DynamicLibrary(const char* title, const char* file,
                               absl::Span<const char* const> needed) {
  // Deep: the library's own calls of its functions go to itself, not to ours of the same name.
  handle_ = dlopen(file, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  if (handle_ == nullptr) {
    const char* reason = dlerror();
    status_ = absl::FailedPreconditionError(
        absl::StrCat(title, ": ", file, " cannot be opened (LD_LIBRARY_PATH says where it is): ",
                     reason == nullptr ? "no reason given" : reason));
    return;
  }
  for (const char* function : needed) {
    if (Find(function) != nullptr) continue;
    status_ = absl::FailedPreconditionError(absl::StrCat(title, ": ", file, " has no ", function,
                                                         ": it is another version than is needed"));
    handle_ = nullptr;  // it stays open
    return;
  }
}

void* DynamicLibrary::Find(const char* function) const {
  return handle_ == nullptr ? nullptr : dlsym(handle_, function);
}

}  // namespace ccoe::kernels
