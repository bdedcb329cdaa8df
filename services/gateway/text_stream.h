// SPDX-License-Identifier: Apache-2.0
// Token ids to the text that a client may see: decoded, and up to a stop string.
#ifndef CCOE_SERVICES_GATEWAY_TEXT_STREAM_H_
#define CCOE_SERVICES_GATEWAY_TEXT_STREAM_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "runtime/tokenizer/tokenizer.h"

namespace ccoe::services {

// Ends a text at the first of some stop strings, however the text is cut into pieces.
//
// Pieces go in, text that can no longer be part of a stop string comes out. The first stop string
// is the one that is complete first, reading character by character (of several that end at the
// same place, the longest): so it does not depend on how the text was cut. Whole characters in give
// whole characters out. Not thread-safe.
class StopFilter {
 public:
  // Empty strings among `stops` are ignored.
  explicit StopFilter(std::vector<std::string> stops);

  // The text that is certain with this piece. Nothing more once a stop string was found.
  std::string Append(absl::string_view piece);

  // What was held back, when nothing follows.
  std::string Finish();

  // The stop string that was found.
  const std::optional<std::string>& found() const { return found_; }

 private:
  // Bytes at the end of held_ that may be the beginning of a stop string.
  size_t PossibleBeginning() const;

  const std::vector<std::string> stops_;
  std::string held_;
  std::optional<std::string> found_;
};

// Pieces are whole UTF-8 characters, without special tokens and up to the first stop string. Not
// thread-safe.
class TextStream {
 public:
  // `tokenizer` must outlive the stream.
  TextStream(const tokenizer::Tokenizer& tokenizer, std::vector<std::string> stops)
      : decoder_(tokenizer, /*skip_special=*/true), filter_(std::move(stops)) {}

  // The text that is certain with this token. An id without a token (a padding row of the model)
  // has no text.
  std::string Append(int32_t id);

  // The rest. It may still end a stop string.
  std::string Finish();

  // The stop string that ended the text.
  const std::optional<std::string>& stop() const { return filter_.found(); }

 private:
  tokenizer::StreamingDecoder decoder_;
  StopFilter filter_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_GATEWAY_TEXT_STREAM_H_
