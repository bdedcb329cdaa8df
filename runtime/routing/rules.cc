// SPDX-License-Identifier: Apache-2.0
#include "runtime/routing/rules.h"

#include <re2/re2.h>
#include <re2/set.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "runtime/base/file.h"
#include "runtime/base/status_macros.h"
#include "runtime/routing/rules_file.h"

namespace ccoe::routing {
namespace {

constexpr int64_t kSetMemory = 64 << 20;

// Numbers of a rule's conditions within its set of expressions: [first, first + count).
struct Slice {
  int first = 0;
  int count = 0;
};

re2::StringPiece Piece(absl::string_view text) {
  return re2::StringPiece(text.data(), text.size());
}

// A byte that belongs to a word: its neighbour continues the word. All of a character beyond ASCII
// does.
bool IsWordByte(char c) { return absl::ascii_isalnum(c) || c == '_' || (c & 0x80) != 0; }

// `keyword` as an expression over bytes: letters in either case, white space of any length, word
// boundaries where the keyword itself ends in a word.
std::string KeywordExpression(absl::string_view keyword) {
  constexpr absl::string_view kBefore = "(?:^|[^0-9A-Za-z_\\x80-\\xff])";
  constexpr absl::string_view kAfter = "(?:$|[^0-9A-Za-z_\\x80-\\xff])";
  keyword = absl::StripAsciiWhitespace(keyword);
  std::string expression;
  if (IsWordByte(keyword.front())) absl::StrAppend(&expression, kBefore);
  bool in_space = false;
  for (char c : keyword) {
    if (absl::ascii_isspace(c)) {
      if (!in_space) absl::StrAppend(&expression, "[\\t-\\r ]+");
      in_space = true;
      continue;
    }
    in_space = false;
    if (absl::ascii_isalpha(c)) {
      absl::StrAppendFormat(&expression, "[%c%c]", absl::ascii_tolower(c), absl::ascii_toupper(c));
    } else {
      absl::StrAppendFormat(&expression, "\\x%02x", static_cast<unsigned char>(c));
    }
  }
  if (IsWordByte(keyword.back())) absl::StrAppend(&expression, kAfter);
  return expression;
}

// Many expressions, matched in one pass. Immutable after Create; thread-safe.
class ExpressionSet {
 public:
  // INVALID_ARGUMENT where the expressions take more memory together than a set may.
  static absl::StatusOr<std::unique_ptr<ExpressionSet>> Create(
      const std::vector<std::string>& expressions, RE2::Options::Encoding encoding) {
    RE2::Options options;
    options.set_log_errors(false);
    options.set_encoding(encoding);
    std::unique_ptr<ExpressionSet> set(new ExpressionSet(options, expressions.size()));
    options.set_max_mem(kMaxPatternMemory);
    for (const std::string& expression : expressions) {
      std::string error;
      if (set->set_.Add(Piece(expression), &error) < 0) {
        return absl::InvalidArgumentError(absl::StrCat("pattern \"", expression, "\": ", error));
      }
      set->singles_.push_back(std::make_unique<RE2>(Piece(expression), options));
    }
    if (!set->set_.Compile()) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "the rules' expressions together: expected to fit into %d MiB", kSetMemory >> 20));
    }
    return set;
  }

  // Which expressions are found in `text`.
  std::vector<bool> Find(absl::string_view text) const {
    std::vector<bool> found(singles_.size(), false);
    if (singles_.empty()) return found;
    std::vector<int> numbers;
    RE2::Set::ErrorInfo error{};
    if (set_.Match(Piece(text), &numbers, &error)) {
      for (int number : numbers) found[number] = true;
    } else if (error.kind != RE2::Set::kNoError) {
      // The set's automaton outgrew its memory on this text. One by one needs none.
      for (size_t i = 0; i < singles_.size(); ++i) {
        found[i] = RE2::PartialMatch(Piece(text), *singles_[i]);
      }
    }
    return found;
  }

 private:
  static RE2::Options WithSetMemory(RE2::Options options) {
    options.set_max_mem(kSetMemory);
    return options;
  }
  ExpressionSet(const RE2::Options& options, size_t count)
      : set_(WithSetMemory(options), RE2::UNANCHORED) {
    singles_.reserve(count);
  }

  RE2::Set set_;
  std::vector<std::unique_ptr<RE2>> singles_;
};

class CompiledRules final : public Rules {
 public:
  static absl::StatusOr<std::unique_ptr<const Rules>> Create(std::vector<RuleSpec> specs) {
    std::vector<std::string> patterns;
    std::vector<std::string> keywords;
    std::vector<CompiledRule> rules;
    for (RuleSpec& spec : specs) {
      CompiledRule rule;
      rule.patterns = {static_cast<int>(patterns.size()), static_cast<int>(spec.patterns.size())};
      rule.keywords = {static_cast<int>(keywords.size()), static_cast<int>(spec.keywords.size())};
      for (const std::string& pattern : spec.patterns) {
        patterns.push_back(EffectivePattern(pattern, spec.case_sensitive));
      }
      for (const std::string& keyword : spec.keywords) {
        keywords.push_back(KeywordExpression(keyword));
      }
      rule.spec = std::move(spec);
      rules.push_back(std::move(rule));
    }
    CCOE_ASSIGN_OR_RETURN(auto pattern_set,
                          ExpressionSet::Create(patterns, RE2::Options::EncodingUTF8));
    // Over bytes: the expressions say themselves what a boundary is, and half a character cannot
    // hide a word.
    CCOE_ASSIGN_OR_RETURN(auto keyword_set,
                          ExpressionSet::Create(keywords, RE2::Options::EncodingLatin1));
    return std::unique_ptr<const Rules>(
        new CompiledRules(std::move(rules), std::move(pattern_set), std::move(keyword_set)));
  }

  std::optional<RuleMatch> Classify(absl::string_view text,
                                    absl::string_view tenant) const override {
    text = text.substr(0, kMaxClassifiedBytes);
    const std::vector<bool> patterns = patterns_->Find(text);
    const std::vector<bool> keywords = keywords_->Find(text);
    for (const CompiledRule& rule : rules_) {
      std::vector<std::string> reasons;
      if (!TenantHolds(rule.spec, tenant, &reasons) ||
          !Holds("keyword", rule.spec.keywords, rule.keywords, keywords, &reasons) ||
          !Holds("pattern", rule.spec.patterns, rule.patterns, patterns, &reasons)) {
        continue;
      }
      RuleMatch match;
      match.rule = rule.spec.name;
      match.expert = rule.spec.expert;
      match.explanation =
          absl::StrCat("rule \"", rule.spec.name, "\": ", absl::StrJoin(reasons, ", "));
      return match;
    }
    return std::nullopt;
  }

  size_t size() const override { return rules_.size(); }

  std::vector<ExpertRef> Experts() const override {
    std::set<ExpertRef> experts;
    for (const CompiledRule& rule : rules_) {
      if (!rule.spec.expert.empty()) experts.insert(rule.spec.expert);
    }
    return std::vector<ExpertRef>(experts.begin(), experts.end());
  }

 private:
  struct CompiledRule {
    RuleSpec spec;
    Slice patterns;
    Slice keywords;
  };

  CompiledRules(std::vector<CompiledRule> rules, std::unique_ptr<const ExpressionSet> patterns,
                std::unique_ptr<const ExpressionSet> keywords)
      : rules_(std::move(rules)), patterns_(std::move(patterns)), keywords_(std::move(keywords)) {}

  static bool TenantHolds(const RuleSpec& spec, absl::string_view tenant,
                          std::vector<std::string>* reasons) {
    if (spec.tenants.empty()) return true;
    if (std::find(spec.tenants.begin(), spec.tenants.end(), tenant) == spec.tenants.end()) {
      return false;
    }
    reasons->push_back(absl::StrCat("tenant \"", tenant, "\""));
    return true;
  }

  // Whether a kind of condition is absent or one of its entries was found; the first one found is
  // the reason.
  static bool Holds(absl::string_view kind, const std::vector<std::string>& conditions, Slice slice,
                    const std::vector<bool>& found, std::vector<std::string>* reasons) {
    if (slice.count == 0) return true;
    for (int i = 0; i < slice.count; ++i) {
      if (!found[slice.first + i]) continue;
      reasons->push_back(absl::StrCat(kind, " \"", conditions[i], "\""));
      return true;
    }
    return false;
  }

  const std::vector<CompiledRule> rules_;
  const std::unique_ptr<const ExpressionSet> patterns_;
  const std::unique_ptr<const ExpressionSet> keywords_;
};

class NoRules final : public Rules {
 public:
  std::optional<RuleMatch> Classify(absl::string_view, absl::string_view) const override {
    return std::nullopt;
  }
  size_t size() const override { return 0; }
  std::vector<ExpertRef> Experts() const override { return {}; }
};

}  // namespace

std::unique_ptr<const Rules> Rules::None() { return std::make_unique<NoRules>(); }

absl::StatusOr<std::unique_ptr<const Rules>> Rules::Parse(absl::string_view text,
                                                          absl::string_view file) {
  CCOE_ASSIGN_OR_RETURN(std::vector<RuleSpec> specs, ParseRulesFile(text, file));
  auto rules = CompiledRules::Create(std::move(specs));
  if (!rules.ok()) return Annotate(rules.status(), file);
  return rules;
}

absl::StatusOr<std::unique_ptr<const Rules>> Rules::Load(const std::string& path) {
  CCOE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxRulesFileBytes));
  return Parse(text, path);
}

}  // namespace ccoe::routing
