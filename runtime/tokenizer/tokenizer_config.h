// What stands beside tokenizer.json: the roles of special tokens, and the chat template.
#ifndef CCOE_RUNTIME_TOKENIZER_TOKENIZER_CONFIG_H_
#define CCOE_RUNTIME_TOKENIZER_TOKENIZER_CONFIG_H_

#include <string>

#include "absl/status/statusor.h"

namespace ccoe::tokenizer {

// Empty strings where the files say nothing.
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

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_TOKENIZER_CONFIG_H_
