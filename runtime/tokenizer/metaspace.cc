#include "runtime/tokenizer/metaspace.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/json_fields.h"
#include "runtime/tokenizer/utf8.h"

namespace ccoe::tokenizer {

absl::StatusOr<Metaspace> ParseMetaspace(const Json& json, const std::string& where) {
  Metaspace options;
  CCOE_ASSIGN_OR_RETURN(options.replacement, StringField(json, "replacement", where));
  if (options.replacement.empty() ||
      DecodeUtf8(options.replacement, 0).length != options.replacement.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        where, ".replacement: expected one character, found '", options.replacement, "'"));
  }
  CCOE_ASSIGN_OR_RETURN(const bool add_prefix, BoolField(json, "add_prefix_space", true, where));
  const std::string fallback = add_prefix ? "always" : "never";
  CCOE_ASSIGN_OR_RETURN(const std::string scheme,
                        StringFieldOr(json, "prepend_scheme", fallback, where));
  if (scheme == "never") {
    options.prepend = PrependScheme::kNever;
  } else if (scheme == "first" && add_prefix) {
    options.prepend = PrependScheme::kFirst;
  } else if (scheme == "always" && add_prefix) {
    options.prepend = PrependScheme::kAlways;
  } else {
    return absl::InvalidArgumentError(absl::StrCat(
        where,
        ".prepend_scheme: expected always, first or never (never without add_prefix_space), ",
        "found '", scheme, "'"));
  }
  CCOE_ASSIGN_OR_RETURN(options.split, BoolField(json, "split", true, where));
  return options;
}

}  // namespace ccoe::tokenizer
