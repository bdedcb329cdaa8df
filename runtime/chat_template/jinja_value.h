// SPDX-License-Identifier: Apache-2.0
// The values of a template: what Python has in their place, as far as chat templates go.
#ifndef CCOE_RUNTIME_CHAT_TEMPLATE_JINJA_VALUE_H_
#define CCOE_RUNTIME_CHAT_TEMPLATE_JINJA_VALUE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ccoe::chat_template {

// What one rendering may cost: a unit for each step, and for each 64 bytes made or looked through.
class JinjaBudget {
 public:
  explicit JinjaBudget(int64_t steps) : left_(steps) {}
  // RESOURCE_EXHAUSTED once it is used up.
  absl::Status Spend(int64_t steps);
  absl::Status SpendBytes(size_t bytes) { return Spend(1 + static_cast<int64_t>(bytes / 64)); }

 private:
  int64_t left_;
};

// Immutable, except for a namespace, and cheap to copy. Strings are valid UTF-8.
class JinjaValue {
 public:
  struct Undefined {
    std::string name;  // of what is missing
  };
  struct None {};
  using List = std::vector<JinjaValue>;
  // In the order in which entries were added.
  using Dict = std::vector<std::pair<std::string, JinjaValue>>;

  JinjaValue() : value_(None{}) {}
  JinjaValue(bool value) : value_(value) {}     // NOLINT: values convert
  JinjaValue(int64_t value) : value_(value) {}  // NOLINT
  JinjaValue(double value) : value_(value) {}   // NOLINT
  JinjaValue(std::string value);                // NOLINT
  static JinjaValue MakeUndefined(std::string name);
  // INVALID_ARGUMENT if nested deeper than 64, larger than 64 MiB, of more than 1024 entries (a
  // dict), or holding a namespace (which could hold itself).
  static absl::StatusOr<JinjaValue> MakeList(List items);
  static absl::StatusOr<JinjaValue> MakeDict(Dict entries);
  static JinjaValue MakeNamespace();

  bool is_undefined() const { return std::holds_alternative<Undefined>(value_); }
  bool is_none() const { return std::holds_alternative<None>(value_); }
  bool is_bool() const { return std::holds_alternative<bool>(value_); }
  // A boolean counts as an integer, as in Python.
  bool is_integer() const { return is_bool() || std::holds_alternative<int64_t>(value_); }
  bool is_number() const { return is_integer() || std::holds_alternative<double>(value_); }
  bool is_string() const { return std::holds_alternative<String>(value_); }
  bool is_list() const { return std::holds_alternative<ListPointer>(value_); }
  bool is_dict() const { return std::holds_alternative<DictPointer>(value_); }
  bool is_namespace() const { return std::holds_alternative<NamespacePointer>(value_); }

  // Each only for a value of its kind; Number and Integer for booleans too.
  int64_t AsInteger() const;
  double AsNumber() const;
  const std::string& AsString() const { return *std::get<String>(value_); }
  const List& AsList() const { return std::get<ListPointer>(value_)->items; }
  const Dict& AsDict() const;  // of a dict or namespace
  absl::Status SetInNamespace(const std::string& key, JinjaValue value) const;
  const std::string& UndefinedName() const { return std::get<Undefined>(value_).name; }

  // The entry of a dict or namespace, nullptr if there is none.
  const JinjaValue* FindEntry(absl::string_view key) const;

  // Python's bool(x).
  bool Truthy() const;
  // "a string", "a list", ... for messages.
  absl::string_view KindName() const;
  // About how many bytes printing or comparing it looks at.
  int64_t weight() const;
  // The same without what its items hold: the cost of a copy.
  int64_t own_weight() const;
  int depth() const;

 private:
  struct ListData {
    List items;
    int64_t weight = 0;
    int depth = 0;
  };
  struct DictData {
    Dict entries;
    int64_t weight = 0;
    int depth = 0;
  };
  struct NamespaceData {
    Dict entries;
  };
  using String = std::shared_ptr<const std::string>;
  using ListPointer = std::shared_ptr<const ListData>;
  using DictPointer = std::shared_ptr<const DictData>;
  using NamespacePointer = std::shared_ptr<NamespaceData>;

  std::variant<Undefined, None, bool, int64_t, double, String, ListPointer, DictPointer,
               NamespacePointer>
      value_;
};

// Python's a == b.
bool JinjaEquals(const JinjaValue& left, const JinjaValue& right);
// What {{ value }} prints: Python's str(x), and nothing for an undefined value.
std::string JinjaText(const JinjaValue& value);
// Python's json.dumps(x, ensure_ascii=False, indent=indent); indent < 0 for one line.
// INVALID_ARGUMENT for what JSON has no form for.
absl::StatusOr<std::string> JinjaJson(const JinjaValue& value, int indent);

// INVALID_ARGUMENT "`function`: expected `expected`, found <its kind>".
absl::Status WrongJinjaKind(absl::string_view function, absl::string_view expected,
                            const JinjaValue& found);

}  // namespace ccoe::chat_template

#endif  // CCOE_RUNTIME_CHAT_TEMPLATE_JINJA_VALUE_H_
