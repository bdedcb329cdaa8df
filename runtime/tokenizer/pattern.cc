// SPDX-License-Identifier: Apache-2.0
#define PCRE2_CODE_UNIT_WIDTH 8
#include "runtime/tokenizer/pattern.h"

#include <pcre2.h>

#include <cctype>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/json_fields.h"
#include "runtime/tokenizer/unicode.h"

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

constexpr size_t kMaxExpressionBytes = 64 << 10;
// One match may look at each byte of the longest text a few times, and no more.
constexpr uint32_t kMatchLimit = 50'000'000;
constexpr uint32_t kHeapLimitKib = 256 << 10;

template <auto kFree>
struct Free {
  template <typename T>
  void operator()(T* pointer) const {
    kFree(pointer);
  }
};
using Code = std::unique_ptr<pcre2_code, Free<pcre2_code_free>>;
using CompileContext = std::unique_ptr<pcre2_compile_context, Free<pcre2_compile_context_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Free<pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Free<pcre2_match_data_free>>;

std::string ErrorText(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

}  // namespace

absl::StatusOr<std::string> TranslateOniguruma(absl::string_view pattern) {
  return Translator(pattern).Run();
}

struct Pattern::Compiled {
  Code code;
  MatchContext context;
  std::string expression;

  // The first match at or after `start`, nullopt if none is left.
  absl::StatusOr<std::optional<Match>> Search(absl::string_view text, size_t start,
                                              pcre2_match_data* data) const {
    const auto subject = reinterpret_cast<PCRE2_SPTR>(text.empty() ? "" : text.data());
    // Checking UTF-8 again for each match would make a long text quadratic; callers have checked
    // it.
    int rc = pcre2_match(code.get(), subject, text.size(), start, PCRE2_NO_UTF_CHECK, data,
                         context.get());
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
      rc = pcre2_match(code.get(), subject, text.size(), start, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                       data, context.get());
    }
    if (rc == PCRE2_ERROR_NOMATCH) return std::optional<Match>();
    if (rc < 0) {
      return absl::ResourceExhaustedError(absl::StrCat("regular expression '", expression,
                                                       "' gave up at byte ", start, " of ",
                                                       text.size(), ": ", ErrorText(rc)));
    }
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data);
    return std::optional<Match>({ends[0], ends[1]});
  }
};

Pattern::Pattern() = default;
Pattern::Pattern(Pattern&&) noexcept = default;
Pattern& Pattern::operator=(Pattern&&) noexcept = default;
Pattern::~Pattern() = default;

absl::StatusOr<Pattern> Pattern::Literal(absl::string_view text) {
  if (text.empty()) return absl::InvalidArgumentError("expected a pattern, found an empty string");
  Pattern pattern;
  pattern.literal_ = std::string(text);
  return pattern;
}

absl::StatusOr<Pattern> Pattern::Regex(absl::string_view expression) {
  if (expression.empty() || expression.size() > kMaxExpressionBytes) {
    return absl::InvalidArgumentError(absl::StrCat("expected a regular expression of 1 to ",
                                                   kMaxExpressionBytes, " bytes, found ",
                                                   expression.size()));
  }
  CCOE_ASSIGN_OR_RETURN(const std::string translated, TranslateOniguruma(expression));
  const CompileContext options(pcre2_compile_context_create(nullptr));
  pcre2_set_newline(options.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  // To Oniguruma ^ and $ are the ends of a line, hence MULTILINE.
  Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                          PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error,
                          &offset, options.get()));
  if (code == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("regular expression '", expression, "' does not compile: ", ErrorText(error),
                     " at offset ", offset, " of '", translated, "'"));
  }
  // Without JIT (not every machine allows it) the interpreter gives the same matches.
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
  MatchContext context(pcre2_match_context_create(nullptr));
  pcre2_set_match_limit(context.get(), kMatchLimit);
  pcre2_set_heap_limit(context.get(), kHeapLimitKib);
  Pattern pattern;
  pattern.compiled_ = std::make_unique<Compiled>(
      Compiled{std::move(code), std::move(context), std::string(expression)});
  return pattern;
}

absl::StatusOr<Pattern> Pattern::FromJson(const Json& json, const std::string& where) {
  CCOE_RETURN_IF_ERROR(ExpectObject(json, where));
  const bool is_literal = FindField(json, "String") != nullptr;
  CCOE_ASSIGN_OR_RETURN(const std::string text,
                        StringField(json, is_literal ? "String" : "Regex", where));
  absl::StatusOr<Pattern> pattern = is_literal ? Literal(text) : Regex(text);
  if (!pattern.ok()) return Annotate(pattern.status(), where);
  return pattern;
}

std::vector<Pattern::Match> Pattern::FindLiteral(absl::string_view text) const {
  std::vector<Match> matches;
  size_t at = text.find(literal_);
  while (at != absl::string_view::npos) {
    matches.push_back({at, at + literal_.size()});
    at = text.find(literal_, at + literal_.size());
  }
  return matches;
}

absl::StatusOr<std::vector<Pattern::Match>> Pattern::FindAll(absl::string_view text) const {
  if (compiled_ == nullptr) return FindLiteral(text);
  std::vector<Match> matches;
  const MatchData data(pcre2_match_data_create(1, nullptr));
  size_t at = 0;
  while (at <= text.size()) {
    CCOE_ASSIGN_OR_RETURN(const std::optional<Match> match,
                          compiled_->Search(text, at, data.get()));
    if (!match.has_value()) break;
    // \K in a look-around can report an end before its start, or before the search.
    if (match->end < match->begin || match->begin < at) {
      return absl::InvalidArgumentError(absl::StrCat("regular expression '", compiled_->expression,
                                                     "' matches backwards at byte ", at));
    }
    const bool repeats =
        match->begin == match->end && !matches.empty() && matches.back().end == match->end;
    if (repeats) {
      if (at >= text.size()) break;
      at += DecodeUtf8(text, at).length;
      continue;
    }
    matches.push_back(*match);
    at = match->end;
  }
  return matches;
}

absl::StatusOr<std::string> Pattern::ReplaceAll(absl::string_view text, absl::string_view content,
                                                size_t max_bytes) const {
  CCOE_ASSIGN_OR_RETURN(const std::vector<Match> matches, FindAll(text));
  std::string out;
  size_t done = 0;
  for (const Match& match : matches) {
    absl::StrAppend(&out, text.substr(done, match.begin - done), content);
    done = match.end;
    if (out.size() > max_bytes) break;
  }
  absl::StrAppend(&out, text.substr(done));
  if (out.size() > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a replacement makes the text longer than ", max_bytes, " bytes"));
  }
  return out;
}

}  // namespace ccoe::tokenizer
