#include "kernels/cuda/kernel_list.h"

#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"

namespace ccoe::kernels {
namespace {

std::vector<KernelEntry>& TheList() {
  static auto* const list = new std::vector<KernelEntry>();
  return *list;
}

}  // namespace

const std::vector<KernelEntry>& ListedKernels() { return TheList(); }

bool ListKernel(const void* kernel, const char* spelled) {
  TheList().push_back({kernel, spelled});
  return true;
}

// "... [with auto kKernel = ccoe::kernels::{anonymous}::GateKernel]" or the like.
std::string KernelName(const KernelEntry& entry) {
  absl::string_view name = entry.spelled;
  const size_t begin = name.find("kKernel = ");
  if (begin == absl::string_view::npos) return std::string(name);
  name.remove_prefix(begin + sizeof("kKernel = ") - 1);
  name = name.substr(0, name.find_last_of(']'));
  std::string plain = absl::StrReplaceAll(name, {{"ccoe::kernels::", ""},
                                                 {"{anonymous}::", ""},
                                                 {"<unnamed>::", ""},
                                                 {"(anonymous namespace)::", ""},
                                                 {"MatmulKind::", ""}});
  // nvcc's anonymous namespaces have names, of the file.
  for (size_t at = plain.find("_GLOBAL__N__"); at != std::string::npos;
       at = plain.find("_GLOBAL__N__")) {
    const size_t end = plain.find("::", at);
    if (end == std::string::npos) break;
    plain.erase(at, end + 2 - at);
  }
  return plain;
}

}  // namespace ccoe::kernels
