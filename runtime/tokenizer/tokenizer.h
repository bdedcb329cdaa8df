// SPDX-License-Identifier: Apache-2.0
// Text to token ids and back, as the model's tokenizer.json says (the format of Hugging Face's
// tokenizers library).
#ifndef CCOE_RUNTIME_TOKENIZER_TOKENIZER_H_
#define CCOE_RUNTIME_TOKENIZER_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "runtime/tokenizer/added_tokens.h"
#include "runtime/tokenizer/bpe.h"
#include "runtime/tokenizer/decoder.h"
#include "runtime/tokenizer/normalizer.h"
#include "runtime/tokenizer/post_processor.h"
#include "runtime/tokenizer/pre_tokenizer.h"

namespace ccoe::tokenizer {

// What stands beside tokenizer.json: the roles of special tokens, and the chat template. Empty
// strings where the files say nothing.
struct TokenizerConfig {
  std::string bos_token;
  std::string eos_token;
  std::string pad_token;
  std::string unk_token;
  std::string chat_template;
};

// Reads tokenizer_config.json, special_tokens_map.json (for tokens that the first does not name)
// and chat_template.jinja (which wins over the template in the first) of `model_dir`, where they
// exist. INVALID_ARGUMENT if one is not what it should be.
absl::StatusOr<TokenizerConfig> ReadTokenizerConfig(const std::string& model_dir);

// The longest text that Encode takes.
inline constexpr size_t kMaxTextBytes = 16 << 20;

// Thread-safe after loading.
class Tokenizer {
 public:
  // Reads `model_dir`/tokenizer.json and, where they exist, tokenizer_config.json,
  // special_tokens_map.json and chat_template.jinja. NOT_FOUND without tokenizer.json;
  // INVALID_ARGUMENT for a file that is corrupt or contradicts itself; UNIMPLEMENTED names a kind
  // of component that is not known here.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& model_dir);

  // The ids of `text`, with what the model wants before and after it (such as <s>) if add_special.
  // Special tokens that are spelt out in the text are found in both cases. INVALID_ARGUMENT for
  // text longer than kMaxTextBytes, or that is not valid UTF-8, naming the byte offset.
  absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view text, bool add_special) const;

  // The text of `ids`, without special tokens if skip_special. Bytes that are not valid UTF-8
  // become U+FFFD. INVALID_ARGUMENT for an id that no token has.
  absl::StatusOr<std::string> Decode(absl::Span<const int32_t> ids, bool skip_special) const;

  // One more than the largest id. (A model may have more rows, as padding.)
  int32_t vocab_size() const { return vocab_size_; }

  // The id of a token as it is written in the vocabulary (blanks as U+0120 or U+2581).
  std::optional<int32_t> TokenToId(absl::string_view token) const;
  // The reverse; INVALID_ARGUMENT for an id that no token has.
  absl::StatusOr<std::string> IdToToken(int64_t id) const;
  // Whether Decode leaves the token out when asked to skip special ones. False for ids that no
  // token has.
  bool IsSpecial(int64_t id) const;

  // The model's special tokens by role, empty strings where it has none, and its chat template,
  // empty if none.
  const TokenizerConfig& config() const { return config_; }
  const std::string& chat_template() const { return config_.chat_template; }
  // Ids of the roles; nullopt where there is none.
  std::optional<int32_t> bos_id() const { return RoleId(config_.bos_token); }
  std::optional<int32_t> eos_id() const { return RoleId(config_.eos_token); }
  std::optional<int32_t> pad_id() const { return RoleId(config_.pad_token); }

  // For StreamingDecoder: a text to decode, which must not outlive the tokenizer.
  std::unique_ptr<DecodeStream> NewDecodeStream() const { return decoder_.NewStream(); }
  // What goes into such a stream for `id`: nullptr if nothing, because it is special and
  // skip_special is set. INVALID_ARGUMENT for an id that no token has.
  absl::StatusOr<const std::string*> TokenForDecoding(int64_t id, bool skip_special) const;

 private:
  // The components, each created from its part of the file.
  struct Parts;

  explicit Tokenizer(Parts parts);

  std::optional<int32_t> RoleId(const std::string& token) const;
  const std::string* FindToken(int64_t id) const;
  absl::Status EncodeText(absl::string_view text, bool at_start, std::vector<int32_t>& ids) const;
  absl::Status EncodeWords(absl::string_view text, bool at_start, std::vector<int32_t>& ids) const;

  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  std::unique_ptr<Bpe> bpe_;
  AddedTokens added_tokens_;
  PostProcessor post_processor_;
  Decoder decoder_;
  TokenizerConfig config_;
  int32_t vocab_size_ = 0;
};

// Text from token ids that come one by one, as a model makes them. What Append and Finish return,
// put together, equals Tokenizer::Decode of all ids. Each part is valid UTF-8: bytes that end
// inside a character wait for the next token. With byte fallback (Llama 2 style) a run of byte
// tokens waits for its end, because one invalid byte turns the whole run into U+FFFD; only then
// does the state grow, by a byte a token. Work per token does not depend on how many came before.
// Used by one thread at a time.
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

#endif  // CCOE_RUNTIME_TOKENIZER_TOKENIZER_H_
