// Text from token ids that come one by one, as a model makes them.
#ifndef CCOE_RUNTIME_TOKENIZER_STREAMING_DECODER_H_
#define CCOE_RUNTIME_TOKENIZER_STREAMING_DECODER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "runtime/tokenizer/tokenizer.h"

namespace ccoe::tokenizer {

// What Append and Finish return, put together, equals Tokenizer::Decode of all ids. Each part is
// valid UTF-8: bytes that end inside a character wait for the next token. With byte fallback (Llama
// 2 style) a run of byte tokens waits for its end, because one invalid byte turns the whole run
// into U+FFFD; only then does the state grow, by a byte a token. Work per token does not depend on
// how many came before. Used by one thread at a time.
class StreamingDecoder {
 public:
  // `tokenizer` must outlive the decoder. skip_special leaves special tokens out.
  StreamingDecoder(const Tokenizer& tokenizer, bool skip_special)
      : tokenizer_(tokenizer), skip_special_(skip_special), stream_(tokenizer.NewDecodeStream()) {}

  // The text that is final with this token, perhaps none. INVALID_ARGUMENT for an id that no token
  // has; the decoder stays as it was.
  absl::StatusOr<std::string> Append(int64_t id);

  // The rest, incomplete bytes as U+FFFD. FAILED_PRECONDITION if the stream has been finished, as
  // for Append.
  absl::StatusOr<std::string> Finish();

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  std::unique_ptr<DecodeStream> stream_;  // none once finished
};

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_STREAMING_DECODER_H_
