// SPDX-License-Identifier: Apache-2.0
// A fuzzer's bytes, taken one after the other. Never fails: behind the end all is zero and empty.
#ifndef CCOE_TESTS_FUZZ_FUZZ_INPUT_H_
#define CCOE_TESTS_FUZZ_FUZZ_INPUT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace ccoe {

class FuzzInput {
 public:
  FuzzInput(const uint8_t* data, size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}

  bool empty() const { return rest_.empty(); }

  uint8_t Byte() { return empty() ? 0 : static_cast<uint8_t>(Take(1)[0]); }

  // The next `size` bytes, fewer at the end.
  absl::string_view Take(size_t size) {
    const absl::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(taken.size());
    return taken;
  }

  // Up to the next zero byte, which is dropped: several texts in one input that people can read.
  absl::string_view Part() {
    const absl::string_view part = Take(std::min(rest_.find('\0'), rest_.size()));
    Take(1);
    return part;
  }

  absl::string_view Rest() { return Take(rest_.size()); }

 private:
  absl::string_view rest_;
};

}  // namespace ccoe

#endif  // CCOE_TESTS_FUZZ_FUZZ_INPUT_H_
