// SPDX-License-Identifier: Apache-2.0
#include "runtime/routing/rules_file.h"

#include <google/protobuf/text_format.h>
#include <re2/re2.h>

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "ccoe/v1/routing.pb.h"
#include "runtime/base/status_macros.h"
#include "runtime/base/text_file.h"
#include "runtime/tokenizer/unicode.h"

namespace ccoe::routing {
namespace {

using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::TextFormat;

// Checks one rule and names the places of its mistakes.
class RuleChecker {
 public:
  RuleChecker(const v1::Rule& rule, int number, const TextFormat::ParseInfoTree& file_places,
              FileMistakes* mistakes)
      : rule_(rule), number_(number), mistakes_(*mistakes) {
    const FieldDescriptor* rules =
        v1::RoutingRules::descriptor()->FindFieldByNumber(v1::RoutingRules::kRulesFieldNumber);
    start_ = file_places.GetLocation(rules, number);
    places_ = file_places.GetTreeForNested(rules, number);
  }

  RuleSpec Check() {
    RuleSpec spec;
    spec.name = rule_.name();
    spec.case_sensitive = rule_.case_sensitive();
    spec.priority = rule_.priority();
    CheckName();
    spec.expert = CheckExpert();
    CheckCounts();
    for (int i = 0; i < rule_.pattern_size(); ++i) CheckPattern(i);
    for (int i = 0; i < rule_.keyword_size(); ++i) {
      CheckText(v1::Rule::kKeywordFieldNumber, i, "keyword", rule_.keyword(i));
    }
    for (int i = 0; i < rule_.tenant_size(); ++i) {
      CheckText(v1::Rule::kTenantFieldNumber, i, "tenant", rule_.tenant(i));
    }
    spec.patterns.assign(rule_.pattern().begin(), rule_.pattern().end());
    spec.keywords.assign(rule_.keyword().begin(), rule_.keyword().end());
    spec.tenants.assign(rule_.tenant().begin(), rule_.tenant().end());
    return spec;
  }

  // A mistake at entry `index` of a field (-1: a field that is not repeated); at the rule's start
  // where the file does not give the field.
  void Report(int field, int index, absl::string_view what) {
    TextFormat::ParseLocation place = start_;
    if (places_ != nullptr) {
      const auto found =
          places_->GetLocation(v1::Rule::descriptor()->FindFieldByNumber(field), index);
      if (found.line >= 0) place = found;
    }
    const std::string name = rule_.name().empty()
                                 ? absl::StrCat("rule ", number_ + 1)
                                 : absl::StrCat("rule \"", Shown(rule_.name()), "\"");
    mistakes_.Add(place.line, place.column, absl::StrCat(name, ": ", what));
  }

 private:
  // For messages: never long, never half a character.
  static std::string Shown(absl::string_view text) {
    const absl::string_view start = text.substr(0, kMaxRuleNameBytes);
    const size_t valid = tokenizer::ValidUtf8Prefix(start);
    return absl::StrCat(start.substr(0, valid), valid < text.size() ? "..." : "");
  }

  void CheckName() {
    if (rule_.name().empty()) {
      Report(v1::Rule::kNameFieldNumber, -1, "has no name");
    } else {
      CheckText(v1::Rule::kNameFieldNumber, -1, "name", rule_.name());
      if (rule_.name().size() > kMaxRuleNameBytes) {
        Report(v1::Rule::kNameFieldNumber, -1,
               absl::StrCat("name: expected at most ", kMaxRuleNameBytes, " bytes, found ",
                            rule_.name().size()));
      }
    }
  }

  ExpertRef CheckExpert() {
    if (rule_.expert() == "base") return {};
    auto expert = ExpertRef::Parse(rule_.expert());
    if (expert.ok()) return *std::move(expert);
    Report(v1::Rule::kExpertFieldNumber, -1,
           absl::StrCat("expert \"", Shown(rule_.expert()), "\": ", expert.status().message()));
    return {};
  }

  void CheckCounts() {
    const int conditions = rule_.pattern_size() + rule_.keyword_size() + rule_.tenant_size();
    if (conditions == 0) {
      Report(v1::Rule::kNameFieldNumber, -1,
             "has no condition; expected a pattern, keyword or tenant");
    } else if (conditions > kMaxConditionsPerRule) {
      Report(v1::Rule::kNameFieldNumber, -1,
             absl::StrCat("conditions: expected at most ", kMaxConditionsPerRule, ", found ",
                          conditions));
    }
  }

  // False where the text cannot stand.
  bool CheckText(int field, int index, absl::string_view kind, const std::string& text) {
    std::string what;
    if (text.size() > kMaxConditionBytes) {
      what = absl::StrCat("expected at most ", kMaxConditionBytes, " bytes, found ", text.size());
    } else if (absl::StripAsciiWhitespace(text).empty()) {
      what = "is empty";
    } else if (tokenizer::ValidUtf8Prefix(text) != text.size()) {
      what = "is not valid UTF-8";
    } else {
      return true;
    }
    Report(field, index, absl::StrCat(kind, " \"", Shown(text), "\": ", what));
    return false;
  }

  void CheckPattern(int index) {
    const std::string& pattern = rule_.pattern(index);
    if (!CheckText(v1::Rule::kPatternFieldNumber, index, "pattern", pattern)) return;
    RE2::Options options;
    options.set_log_errors(false);
    options.set_max_mem(kMaxPatternMemory);
    const RE2 compiled(pattern, options);
    if (!compiled.ok()) {
      Report(v1::Rule::kPatternFieldNumber, index,
             absl::StrCat("pattern \"", Shown(pattern), "\": ", compiled.error()));
    }
  }

  const v1::Rule& rule_;
  const int number_;
  FileMistakes& mistakes_;
  TextFormat::ParseLocation start_;
  const TextFormat::ParseInfoTree* places_ = nullptr;
};

// Bounds over all rules together.
void CheckTotals(const v1::RoutingRules& rules, FileMistakes* mistakes) {
  int patterns = 0;
  int keywords = 0;
  for (const v1::Rule& rule : rules.rules()) {
    patterns += rule.pattern_size();
    keywords += rule.keyword_size();
  }
  const auto check = [&](absl::string_view what, int found, int most) {
    if (found <= most) return;
    mistakes->Add(-1, 0, absl::StrCat(what, ": expected at most ", most, ", found ", found));
  };
  check("rules", rules.rules_size(), kMaxRules);
  check("patterns of all rules", patterns, kMaxPatterns);
  check("keywords of all rules", keywords, kMaxKeywords);
  if (rules.rules_size() == 0) mistakes->Add(-1, 0, "holds no rules");
}

}  // namespace

std::string EffectivePattern(const std::string& pattern, bool case_sensitive) {
  return absl::StrCat(case_sensitive ? "(?:" : "(?i:", pattern, ")");
}

absl::StatusOr<std::vector<RuleSpec>> ParseRulesFile(absl::string_view text,
                                                     absl::string_view file) {
  FileMistakes mistakes(file);
  TextFormat::ParseInfoTree places;
  v1::RoutingRules rules;
  // After a syntax error the rest of the file means nothing.
  if (!ParseTextFile(text, kMaxRulesFileBytes, &rules, &places, &mistakes)) {
    return mistakes.ToStatus();
  }
  CheckTotals(rules, &mistakes);
  CCOE_RETURN_IF_ERROR(mistakes.ToStatus());
  std::vector<RuleSpec> specs;
  absl::flat_hash_map<std::string, int> seen;
  for (int i = 0; i < rules.rules_size(); ++i) {
    RuleChecker checker(rules.rules(i), i, places, &mistakes);
    specs.push_back(checker.Check());
    const auto [earlier, fresh] = seen.emplace(specs.back().name, i);
    if (!fresh && !specs.back().name.empty()) {
      checker.Report(v1::Rule::kNameFieldNumber, -1,
                     absl::StrCat("name is taken by rule ", earlier->second + 1));
    }
  }
  CCOE_RETURN_IF_ERROR(mistakes.ToStatus());
  std::stable_sort(specs.begin(), specs.end(),
                   [](const RuleSpec& a, const RuleSpec& b) { return a.priority > b.priority; });
  return specs;
}

}  // namespace ccoe::routing
