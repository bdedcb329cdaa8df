// Tokens of a template to its syntax tree.
#ifndef CCOE_RUNTIME_TOKENIZER_JINJA_PARSER_H_
#define CCOE_RUNTIME_TOKENIZER_JINJA_PARSER_H_

#include <vector>

#include "absl/status/statusor.h"
#include "runtime/tokenizer/jinja_ast.h"
#include "runtime/tokenizer/jinja_lexer.h"

namespace ccoe::tokenizer {

// INVALID_ARGUMENT names the line, what was expected and what was found. UNIMPLEMENTED names a
// statement, filter or test of Jinja that is not known here. Trees are at most 200 deep.
absl::StatusOr<JinjaStatement::Body> ParseJinja(std::vector<JinjaToken> tokens);

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_JINJA_PARSER_H_
