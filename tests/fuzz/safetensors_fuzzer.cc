// SPDX-License-Identifier: Apache-2.0
// Files of tensors. Input: a byte; 0 takes what follows as the file, any other makes the file of a
// JSON header, a zero byte and data, so that the header's length is right.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "runtime/base/check.h"
#include "runtime/model/safetensors.h"
#include "tests/fuzz/fuzz_folder.h"
#include "tests/fuzz/fuzz_input.h"

namespace ccoe::model {

std::string FileOf(FuzzInput input) {
  if (input.Byte() == 0) return std::string(input.Rest());
  const absl::string_view header = input.Part();
  const uint64_t length = header.size();
  std::string file(reinterpret_cast<const char*>(&length), sizeof(length));
  absl::StrAppend(&file, header, input.Rest());
  return file;
}

void ReadTensors(FuzzInput input) {
  static const FuzzFolder folder;
  folder.Put("a.safetensors", FileOf(input));
  const auto file = SafetensorsFile::Open(folder.path() + "/a.safetensors");
  if (!file.ok()) {
    CCOE_CHECK(!file.status().message().empty());
    return;
  }
  const auto& tensors = (*file)->tensors();
  uint64_t sum = 0;
  for (const auto& [name, view] : tensors) {
    // Reads every byte that a view promises: the sanitizer sees a wrong one.
    for (size_t i = 0; i < view.size_bytes; ++i) sum += static_cast<const uint8_t*>(view.data)[i];
  }
  [[maybe_unused]] static volatile uint64_t sink;
  sink = sum;
  // What was read can be written and read again.
  CCOE_CHECK(WriteSafetensors(folder.path() + "/b.safetensors", tensors).ok());
  const auto again = SafetensorsFile::Open(folder.path() + "/b.safetensors");
  CCOE_CHECK(again.ok() && (*again)->tensors().size() == tensors.size());
  for (const auto& [name, view] : tensors) {
    const TensorView& copy = (*again)->tensors().at(name);
    CCOE_CHECK(copy.dtype == view.dtype && copy.shape == view.shape &&
               copy.size_bytes == view.size_bytes);
    CCOE_CHECK(view.size_bytes == 0 || std::memcmp(copy.data, view.data, view.size_bytes) == 0);
  }
}

}  // namespace ccoe::model

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ccoe::model::ReadTensors({data, size});
  return 0;
}
