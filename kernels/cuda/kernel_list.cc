// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/kernel_list.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
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

// "... [with auto kKernel = ccoe::kernels::{anonymous}::GateKernel]" or the like: without what
// stands before a "::".
std::string KernelName(const KernelEntry& entry) {
  absl::string_view spelled = entry.spelled;
  const size_t begin = spelled.find("kKernel = ");
  if (begin == absl::string_view::npos) return std::string(spelled);
  spelled.remove_prefix(begin + sizeof("kKernel = ") - 1);
  std::string name;
  for (const char c : absl::StrReplaceAll(spelled.substr(0, spelled.find_last_of(']')),
                                          {{"{anonymous}", "anonymous"},
                                           {"<unnamed>", "anonymous"},
                                           {"(anonymous namespace)", "anonymous"}})) {
    name.push_back(c);
    if (!absl::EndsWith(name, "::")) continue;
    name.resize(name.size() - 2);
    while (!name.empty() && (absl::ascii_isalnum(name.back()) || name.back() == '_')) {
      name.pop_back();
    }
  }
  return name;
}

}  // namespace ccoe::kernels
