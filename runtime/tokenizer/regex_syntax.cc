#include "runtime/tokenizer/regex_syntax.h"

#include <cctype>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"

namespace ccoe::tokenizer {
namespace {

class Translator {
 public:
  explicit Translator(absl::string_view pattern) : pattern_(pattern) {}

  absl::StatusOr<std::string> Run() {
    while (at_ < pattern_.size()) {
      const char c = pattern_[at_];
      if (c == '\\') {
        Escape();
      } else if (in_class_) {
        CCOE_RETURN_IF_ERROR(InClass(c));
      } else {
        CCOE_RETURN_IF_ERROR(Outside(c));
      }
    }
    return out_;
  }

 private:
  void Copy(size_t count) {
    absl::StrAppend(&out_, pattern_.substr(at_, count));
    at_ += count;
  }

  void Emit(absl::string_view replacement, size_t consumed) {
    absl::StrAppend(&out_, replacement);
    at_ += consumed;
  }

  void Escape() {
    if (at_ + 1 >= pattern_.size()) return Copy(1);
    switch (pattern_[at_ + 1]) {
      // PCRE2's \s also takes U+180E, which is no longer white space.
      case 's':
        return Emit("\\p{White_Space}", 2);
      case 'S':
        return Emit("\\P{White_Space}", 2);
      // A hexadecimal digit to Oniguruma, a horizontal blank to PCRE2.
      case 'h':
        return Emit(in_class_ ? "0-9A-Fa-f" : "[0-9A-Fa-f]", 2);
      default:
        return Copy(2);
    }
  }

  absl::Status InClass(char c) {
    if (c == ']' && at_ > class_start_) {
      in_class_ = false;
    } else if (absl::StartsWith(pattern_.substr(at_), "[:")) {
      const size_t end = pattern_.find(":]", at_);
      if (end != absl::string_view::npos) {
        Copy(end + 2 - at_);
        return absl::OkStatus();
      }
    } else if (c == '[' || absl::StartsWith(pattern_.substr(at_), "&&")) {
      return Unsupported("a set or a set operation inside a character class");
    }
    Copy(1);
    return absl::OkStatus();
  }

  absl::Status Outside(char c) {
    if (c == '[') {
      in_class_ = true;
      class_start_ = at_ + 1;
      if (class_start_ < pattern_.size() && pattern_[class_start_] == '^') ++class_start_;
      Copy(class_start_ - at_);
      return absl::OkStatus();
    }
    if (c == '}' && at_ > 0 && std::isdigit(static_cast<unsigned char>(Before())) != 0 &&
        at_ + 1 < pattern_.size() && pattern_[at_ + 1] == '+') {
      return Unsupported("a + after an interval");
    }
    Copy(1);
    return absl::OkStatus();
  }

  // The character before a closing brace, past the comma of {n,}.
  char Before() const {
    return pattern_[at_ - 1] == ',' && at_ > 1 ? pattern_[at_ - 2] : pattern_[at_ - 1];
  }

  absl::Status Unsupported(absl::string_view what) const {
    return absl::UnimplementedError(
        absl::StrCat("regular expression '", pattern_, "' has ", what, " at offset ", at_));
  }

  absl::string_view pattern_;
  size_t at_ = 0;
  bool in_class_ = false;
  size_t class_start_ = 0;
  std::string out_;
};

}  // namespace

absl::StatusOr<std::string> TranslateOniguruma(absl::string_view pattern) {
  return Translator(pattern).Run();
}

}  // namespace ccoe::tokenizer
