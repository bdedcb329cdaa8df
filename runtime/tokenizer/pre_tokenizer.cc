// SPDX-License-Identifier: Apache-2.0
#include "runtime/tokenizer/pre_tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/json_fields.h"
#include "runtime/tokenizer/unicode.h"

namespace ccoe::tokenizer {

class PreTokenizer::Step {
 public:
  virtual ~Step() = default;
  virtual absl::Status Apply(std::vector<Piece>& pieces) const = 0;
};

namespace {

struct Span {
  size_t begin = 0;
  size_t end = 0;
  bool delimiter = false;
};

// The whole of a text as delimiters and what lies between them.
std::vector<Span> Cover(const std::vector<Pattern::Match>& matches, size_t size, bool invert) {
  std::vector<Span> spans;
  size_t done = 0;
  for (const Pattern::Match& match : matches) {
    if (match.begin > done) spans.push_back({done, match.begin, invert});
    spans.push_back({match.begin, match.end, !invert});
    done = match.end;
  }
  if (done < size) spans.push_back({done, size, invert});
  return spans;
}

// Whether a span joins the one that was looked at before it.
bool Joins(SplitBehavior behavior, bool delimiter, bool previous_delimiter) {
  if (behavior == SplitBehavior::kContiguous) return delimiter == previous_delimiter;
  return delimiter && !previous_delimiter;
}

std::vector<Span> Merge(const std::vector<Span>& spans, SplitBehavior behavior) {
  std::vector<Span> merged;
  bool previous = false;
  for (const Span& span : spans) {
    if (!merged.empty() && Joins(behavior, span.delimiter, previous)) {
      merged.back().begin = std::min(merged.back().begin, span.begin);
      merged.back().end = std::max(merged.back().end, span.end);
    } else {
      merged.push_back(span);
    }
    previous = span.delimiter;
  }
  return merged;
}

constexpr int kMaxDepth = 16;
constexpr char kGpt2Words[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr char kWordOrSymbols[] =
    R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]+|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}\s]+)";
constexpr char kPunctuation[] = R"([\p{P}!-/:-@\[-`{-~])";

// Appends the parts that `rule` cuts `piece` into.
absl::Status SplitPiece(const Piece& piece, const SplitRule& rule, std::vector<Piece>& out) {
  CCOE_ASSIGN_OR_RETURN(const std::vector<absl::string_view> parts, Split(piece.text, rule));
  for (const absl::string_view part : parts) {
    out.push_back({std::string(part), piece.at_start && part.data() == piece.text.data()});
  }
  return absl::OkStatus();
}

class SplitStep final : public PreTokenizer::Step {
 public:
  explicit SplitStep(SplitRule rule) : rule_(std::move(rule)) {}
  absl::Status Apply(std::vector<Piece>& pieces) const override {
    std::vector<Piece> out;
    for (const Piece& piece : pieces) CCOE_RETURN_IF_ERROR(SplitPiece(piece, rule_, out));
    pieces = std::move(out);
    return absl::OkStatus();
  }

 private:
  SplitRule rule_;
};

class ByteLevelStep final : public PreTokenizer::Step {
 public:
  ByteLevelStep(bool add_prefix_space, std::optional<SplitRule> words)
      : add_prefix_space_(add_prefix_space), words_(std::move(words)) {}
  absl::Status Apply(std::vector<Piece>& pieces) const override {
    std::vector<Piece> out;
    for (Piece& piece : pieces) {
      if (add_prefix_space_ && piece.text[0] != ' ') piece.text.insert(0, " ");
      if (words_.has_value()) {
        CCOE_RETURN_IF_ERROR(SplitPiece(piece, *words_, out));
      } else {
        out.push_back(std::move(piece));
      }
    }
    for (Piece& piece : out) piece.text = ToByteAlphabet(piece.text);
    pieces = std::move(out);
    return absl::OkStatus();
  }

 private:
  bool add_prefix_space_;
  std::optional<SplitRule> words_;
};

class MetaspaceStep final : public PreTokenizer::Step {
 public:
  MetaspaceStep(Metaspace options, std::optional<SplitRule> words)
      : options_(std::move(options)), words_(std::move(words)) {}
  absl::Status Apply(std::vector<Piece>& pieces) const override {
    std::vector<Piece> out;
    for (Piece& piece : pieces) {
      piece.text = absl::StrReplaceAll(piece.text, {{" ", options_.replacement}});
      const bool prepend = options_.prepend == PrependScheme::kAlways ||
                           (options_.prepend == PrependScheme::kFirst && piece.at_start);
      if (prepend && !absl::StartsWith(piece.text, options_.replacement)) {
        piece.text.insert(0, options_.replacement);
      }
      if (words_.has_value()) {
        CCOE_RETURN_IF_ERROR(SplitPiece(piece, *words_, out));
      } else {
        out.push_back(std::move(piece));
      }
    }
    pieces = std::move(out);
    return absl::OkStatus();
  }

 private:
  Metaspace options_;
  std::optional<SplitRule> words_;
};

using Steps = std::vector<std::unique_ptr<PreTokenizer::Step>>;

absl::Status AddSplit(absl::string_view expression, SplitBehavior behavior, bool invert,
                      Steps& steps) {
  CCOE_ASSIGN_OR_RETURN(Pattern pattern, Pattern::Regex(expression));
  steps.push_back(std::make_unique<SplitStep>(SplitRule{std::move(pattern), behavior, invert}));
  return absl::OkStatus();
}

absl::Status AddByteLevel(const Json& json, const std::string& where, Steps& steps) {
  CCOE_ASSIGN_OR_RETURN(const bool prefix, BoolField(json, "add_prefix_space", true, where));
  CCOE_ASSIGN_OR_RETURN(const bool use_regex, BoolField(json, "use_regex", true, where));
  std::optional<SplitRule> words;
  if (use_regex) {
    CCOE_ASSIGN_OR_RETURN(Pattern pattern, Pattern::Regex(kGpt2Words));
    words = SplitRule{std::move(pattern), SplitBehavior::kIsolated, false};
  }
  steps.push_back(std::make_unique<ByteLevelStep>(prefix, std::move(words)));
  return absl::OkStatus();
}

absl::Status AddSplitFromJson(const Json& json, const std::string& where, Steps& steps) {
  const Json* pattern_json = FindField(json, "pattern");
  if (pattern_json == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(where, ".pattern: expected one, found nothing"));
  }
  CCOE_ASSIGN_OR_RETURN(Pattern pattern,
                        Pattern::FromJson(*pattern_json, absl::StrCat(where, ".pattern")));
  CCOE_ASSIGN_OR_RETURN(const std::string name, StringField(json, "behavior", where));
  CCOE_ASSIGN_OR_RETURN(const SplitBehavior behavior, ParseSplitBehavior(name, where));
  CCOE_ASSIGN_OR_RETURN(const bool invert, BoolField(json, "invert", false, where));
  steps.push_back(std::make_unique<SplitStep>(SplitRule{std::move(pattern), behavior, invert}));
  return absl::OkStatus();
}

absl::Status AddMetaspace(const Json& json, const std::string& where, Steps& steps) {
  CCOE_ASSIGN_OR_RETURN(Metaspace options, ParseMetaspace(json, where));
  std::optional<SplitRule> words;
  if (options.split) {
    CCOE_ASSIGN_OR_RETURN(Pattern pattern, Pattern::Literal(options.replacement));
    words = SplitRule{std::move(pattern), SplitBehavior::kMergedWithNext, false};
  }
  steps.push_back(std::make_unique<MetaspaceStep>(std::move(options), std::move(words)));
  return absl::OkStatus();
}

absl::Status AddStep(const std::string& type, const Json& json, const std::string& where,
                     Steps& steps) {
  if (type == "ByteLevel") return AddByteLevel(json, where, steps);
  if (type == "Split") return AddSplitFromJson(json, where, steps);
  if (type == "Metaspace") return AddMetaspace(json, where, steps);
  if (type == "Digits") {
    CCOE_ASSIGN_OR_RETURN(const bool alone, BoolField(json, "individual_digits", false, where));
    const auto behavior = alone ? SplitBehavior::kIsolated : SplitBehavior::kContiguous;
    return AddSplit("\\p{N}", behavior, false, steps);
  }
  if (type == "Whitespace") return AddSplit(kWordOrSymbols, SplitBehavior::kRemoved, true, steps);
  if (type == "WhitespaceSplit") return AddSplit("\\s", SplitBehavior::kRemoved, false, steps);
  if (type == "Punctuation") {
    CCOE_ASSIGN_OR_RETURN(const std::string name,
                          StringFieldOr(json, "behavior", "Isolated", where));
    CCOE_ASSIGN_OR_RETURN(const SplitBehavior behavior, ParseSplitBehavior(name, where));
    return AddSplit(kPunctuation, behavior, false, steps);
  }
  return absl::UnimplementedError(absl::StrCat(where, ": pre_tokenizer type '", type, "'"));
}

absl::Status AddSteps(const Json& json, const std::string& where, int depth, Steps& steps) {
  if (depth > kMaxDepth) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": nested deeper than ", kMaxDepth));
  }
  CCOE_RETURN_IF_ERROR(ExpectObject(json, where));
  CCOE_ASSIGN_OR_RETURN(const std::string type, StringField(json, "type", where));
  if (type != "Sequence") return AddStep(type, json, where, steps);
  CCOE_ASSIGN_OR_RETURN(const Json* parts, ArrayField(json, "pretokenizers", where));
  for (size_t i = 0; i < parts->size(); ++i) {
    CCOE_RETURN_IF_ERROR(
        AddSteps((*parts)[i], absl::StrCat(where, ".pretokenizers[", i, "]"), depth + 1, steps));
  }
  return absl::OkStatus();
}

}  // namespace

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

absl::StatusOr<SplitBehavior> ParseSplitBehavior(const std::string& name,
                                                 const std::string& where) {
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return absl::InvalidArgumentError(
      absl::StrCat(where,
                   ".behavior: expected Removed, Isolated, MergedWithPrevious, MergedWithNext or "
                   "Contiguous, found '",
                   name, "'"));
}

absl::StatusOr<std::vector<absl::string_view>> Split(absl::string_view text,
                                                     const SplitRule& rule) {
  CCOE_ASSIGN_OR_RETURN(const std::vector<Pattern::Match> matches, rule.pattern.FindAll(text));
  std::vector<Span> spans = Cover(matches, text.size(), rule.invert);
  switch (rule.behavior) {
    case SplitBehavior::kRemoved:
      spans.erase(std::remove_if(spans.begin(), spans.end(),
                                 [](const Span& span) { return span.delimiter; }),
                  spans.end());
      break;
    case SplitBehavior::kIsolated:
      break;
    case SplitBehavior::kMergedWithNext:
      std::reverse(spans.begin(), spans.end());
      spans = Merge(spans, rule.behavior);
      std::reverse(spans.begin(), spans.end());
      break;
    case SplitBehavior::kMergedWithPrevious:
    case SplitBehavior::kContiguous:
      spans = Merge(spans, rule.behavior);
      break;
  }
  std::vector<absl::string_view> pieces;
  pieces.reserve(spans.size());
  for (const Span& span : spans) {
    if (span.end > span.begin) pieces.push_back(text.substr(span.begin, span.end - span.begin));
  }
  return pieces;
}

PreTokenizer::PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;
PreTokenizer::~PreTokenizer() = default;

absl::StatusOr<PreTokenizer> PreTokenizer::Create(const Json& json) {
  PreTokenizer pre_tokenizer;
  if (!json.is_null()) {
    CCOE_RETURN_IF_ERROR(AddSteps(json, "pre_tokenizer", 0, pre_tokenizer.steps_));
  }
  return pre_tokenizer;
}

absl::Status PreTokenizer::Apply(std::vector<Piece>& pieces) const {
  for (const auto& step : steps_) CCOE_RETURN_IF_ERROR(step->Apply(pieces));
  return absl::OkStatus();
}

}  // namespace ccoe::tokenizer
