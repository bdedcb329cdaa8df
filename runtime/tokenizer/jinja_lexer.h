// Cuts a Jinja template into tokens, with white space treated as Hugging Face's chat templates want
// it: the newline after a block tag goes (trim_blocks), as do blanks before one at the start of its
// line (lstrip_blocks), and one newline at the end of the template.
#ifndef CCOE_RUNTIME_TOKENIZER_JINJA_LEXER_H_
#define CCOE_RUNTIME_TOKENIZER_JINJA_LEXER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ccoe::tokenizer {

struct JinjaToken {
  enum class Kind {
    kText,         // outside of tags, as it is to be printed
    kOutputBegin,  // {{
    kOutputEnd,    // }}
    kBlockBegin,   // {%
    kBlockEnd,     // %}
    kName,
    kString,  // text holds what it means, escapes resolved
    kInteger,
    kFloat,
    kOperator,
    kEnd,  // of the template
  };
  Kind kind = Kind::kEnd;
  std::string text;
  int line = 1;
};

// INVALID_ARGUMENT names the line. The last token is kEnd. `source` is valid UTF-8.
absl::StatusOr<std::vector<JinjaToken>> LexJinja(absl::string_view source);

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_JINJA_LEXER_H_
