#include "runtime/tokenizer/jinja_tests.h"

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/jinja_operators.h"

namespace ccoe::tokenizer {
namespace {

// A test without arguments.
using Predicate = bool (*)(const JinjaValue&);

bool IsEven(const JinjaValue& x) { return x.is_integer() && x.AsInteger() % 2 == 0; }
bool IsOdd(const JinjaValue& x) { return x.is_integer() && x.AsInteger() % 2 != 0; }
bool IsIterable(const JinjaValue& x) {
  return x.is_string() || x.is_list() || x.is_dict() || x.is_undefined();
}

const absl::flat_hash_map<std::string, Predicate>& Predicates() {
  static const auto* const table = new absl::flat_hash_map<std::string, Predicate>{
      {"defined", [](const JinjaValue& x) { return !x.is_undefined(); }},
      {"undefined", [](const JinjaValue& x) { return x.is_undefined(); }},
      {"none", [](const JinjaValue& x) { return x.is_none(); }},
      {"string", [](const JinjaValue& x) { return x.is_string(); }},
      {"mapping", [](const JinjaValue& x) { return x.is_dict(); }},
      {"iterable", IsIterable},
      // To Python whatever has a length and an index.
      {"sequence", IsIterable},
      {"boolean", [](const JinjaValue& x) { return x.is_bool(); }},
      {"true", [](const JinjaValue& x) { return x.is_bool() && x.Truthy(); }},
      {"false", [](const JinjaValue& x) { return x.is_bool() && !x.Truthy(); }},
      {"integer", [](const JinjaValue& x) { return x.is_integer() && !x.is_bool(); }},
      {"float", [](const JinjaValue& x) { return x.is_number() && !x.is_integer(); }},
      {"number", [](const JinjaValue& x) { return x.is_number(); }},
      {"even", IsEven},
      {"odd", IsOdd},
  };
  return *table;
}

// A test against one other value, by the operator that it means.
const absl::flat_hash_map<std::string, std::string>& Comparisons() {
  static const auto* const table = new absl::flat_hash_map<std::string, std::string>{
      {"equalto", "=="}, {"eq", "=="}, {"ne", "!="}, {"lt", "<"},
      {"le", "<="},      {"gt", ">"},  {"ge", ">="}, {"in", "in"},
  };
  return *table;
}

}  // namespace

bool IsJinjaTest(absl::string_view name) {
  return Predicates().contains(name) || Comparisons().contains(name);
}

absl::StatusOr<bool> ApplyJinjaTest(const std::string& name, const JinjaValue& input,
                                    const JinjaArguments& arguments) {
  const size_t given = arguments.positional.size() + arguments.keywords.size();
  if (const auto found = Predicates().find(name); found != Predicates().end()) {
    CCOE_RETURN_IF_ERROR(arguments.Expect(0, {}, absl::StrCat("test ", name)));
    return found->second(input);
  }
  const auto comparison = Comparisons().find(name);
  if (comparison == Comparisons().end()) {
    return absl::UnimplementedError(absl::StrCat("test '", name, "'"));
  }
  if (given != 1 || arguments.positional.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("test ", name, ": expected one argument"));
  }
  return CompareJinja(comparison->second, input, arguments.positional[0]);
}

}  // namespace ccoe::tokenizer
