#include "kernels/cuda/dynamic/dynamic_library.h"

#include <dlfcn.h>

#include "absl/strings/str_cat.h"

namespace ccoe::kernels {

DynamicLibrary::DynamicLibrary(const char* title, const char* file) {
  // Deep: the library's own calls of its functions go to itself, not to ours of the same name.
  handle_ = dlopen(file, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  if (handle_ != nullptr) return;
  const char* reason = dlerror();
  status_ = absl::FailedPreconditionError(absl::StrCat(
      title, ": ", file, " is not on this machine (LD_LIBRARY_PATH says where it is): ",
      reason == nullptr ? "no reason given" : reason));
}

void* DynamicLibrary::Find(const char* function) const {
  return handle_ == nullptr ? nullptr : dlsym(handle_, function);
}

}  // namespace ccoe::kernels
