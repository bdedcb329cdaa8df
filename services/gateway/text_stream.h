// Token ids to the text that a client may see.
#ifndef CCOE_SERVICES_GATEWAY_TEXT_STREAM_H_
#define CCOE_SERVICES_GATEWAY_TEXT_STREAM_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/tokenizer/tokenizer.h"
#include "services/gateway/stop_filter.h"

namespace ccoe::services {

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
