// The settings that the Metaspace pre-tokenizer and decoder share: blanks written as a visible
// character.
#ifndef CCOE_RUNTIME_TOKENIZER_METASPACE_H_
#define CCOE_RUNTIME_TOKENIZER_METASPACE_H_

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "absl/status/statusor.h"

namespace ccoe::tokenizer {

// Where a blank is put before text that does not start with one.
enum class PrependScheme { kNever, kFirst, kAlways };

struct Metaspace {
  std::string replacement;  // one character, U+2581 as a rule
  PrependScheme prepend = PrependScheme::kAlways;
  bool split = true;  // each blank starts a word
};

// The object of type "Metaspace", in its present form (prepend_scheme) or the former
// (add_prefix_space).
absl::StatusOr<Metaspace> ParseMetaspace(const nlohmann::json& json, const std::string& where);

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_METASPACE_H_
