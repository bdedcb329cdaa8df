// SPDX-License-Identifier: Apache-2.0
// Tokenizers, and texts through what came of them. Input: tokenizer.json, a zero byte,
// tokenizer_config.json (empty: none), a zero byte, a text.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/base/check.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/tokenizer/unicode.h"
#include "tests/fuzz/fuzz_folder.h"
#include "tests/fuzz/fuzz_input.h"

namespace ccoe::tokenizer {

// Token by token as all at once.
void DecodeBothWays(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool skip) {
  const absl::StatusOr<std::string> whole = tokenizer.Decode(ids, skip);
  CCOE_CHECK(whole.ok());
  CCOE_CHECK(ValidUtf8Prefix(*whole) == whole->size());
  StreamingDecoder stream(tokenizer, skip);
  std::string text;
  for (const int32_t id : ids) {
    const absl::StatusOr<std::string> part = stream.Append(id);
    CCOE_CHECK(part.ok() && ValidUtf8Prefix(*part) == part->size());
    text += *part;
  }
  const absl::StatusOr<std::string> rest = stream.Finish();
  CCOE_CHECK(rest.ok() && text + *rest == *whole);
}

void Tokenize(FuzzInput input) {
  static const FuzzFolder folder;
  folder.Put("tokenizer.json", input.Part());
  const absl::string_view config = input.Part();
  folder.Put("tokenizer_config.json", config.empty() ? "{}" : config);
  const auto tokenizer = Tokenizer::Load(folder.path());
  if (!tokenizer.ok()) {
    CCOE_CHECK(!tokenizer.status().message().empty());
    return;
  }
  CCOE_CHECK((*tokenizer)->vocab_size() > 0);
  const absl::string_view text = input.Rest();
  for (const bool add_special : {false, true}) {
    const auto ids = (*tokenizer)->Encode(text, add_special);
    CCOE_CHECK(!ids.ok() || ValidUtf8Prefix(text) == text.size());
    if (!ids.ok()) {
      CCOE_CHECK(!ids.status().message().empty());
      continue;
    }
    for (const int32_t id : *ids) CCOE_CHECK(id >= 0 && id < (*tokenizer)->vocab_size());
    DecodeBothWays(**tokenizer, *ids, add_special);
  }
}

}  // namespace ccoe::tokenizer

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ccoe::tokenizer::Tokenize({data, size});
  return 0;
}
