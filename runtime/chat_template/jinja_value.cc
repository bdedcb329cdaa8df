// SPDX-License-Identifier: Apache-2.0
#include "runtime/chat_template/jinja_value.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/base/status_macros.h"

namespace ccoe::chat_template {
namespace {

constexpr int kMaxDepth = 64;
// What a value takes besides its text.
constexpr int64_t kValueBytes = sizeof(JinjaValue);
constexpr int64_t kMaxWeight = 64 << 20;
// Entries are found one by one, which is quickest for the few that dicts have.
constexpr size_t kMaxEntries = 1024;

absl::Status CheckElement(const JinjaValue& element, int64_t& weight, int& depth) {
  if (element.is_namespace()) {
    return absl::InvalidArgumentError("a namespace cannot be kept inside another value");
  }
  weight += element.weight();
  depth = std::max(depth, element.depth() + 1);
  if (weight > kMaxWeight || depth > kMaxDepth) {
    return absl::InvalidArgumentError(absl::StrCat("a value is nested deeper than ", kMaxDepth,
                                                   " or larger than ", kMaxWeight, " bytes"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status JinjaBudget::Spend(int64_t steps) {
  left_ -= steps;
  if (left_ >= 0) return absl::OkStatus();
  return absl::ResourceExhaustedError("the template takes too many steps");
}

JinjaValue::JinjaValue(std::string value)
    : value_(std::make_shared<const std::string>(std::move(value))) {}

JinjaValue JinjaValue::MakeUndefined(std::string name) {
  JinjaValue value;
  value.value_ = Undefined{std::move(name)};
  return value;
}

absl::StatusOr<JinjaValue> JinjaValue::MakeList(List items) {
  int64_t weight = kValueBytes;
  int depth = 1;
  for (const JinjaValue& item : items) CCOE_RETURN_IF_ERROR(CheckElement(item, weight, depth));
  JinjaValue value;
  value.value_ = std::make_shared<const ListData>(ListData{std::move(items), weight, depth});
  return value;
}

absl::StatusOr<JinjaValue> JinjaValue::MakeDict(Dict entries) {
  if (entries.size() > kMaxEntries) {
    return absl::InvalidArgumentError(
        absl::StrCat("a dict has more than ", kMaxEntries, " entries"));
  }
  int64_t weight = kValueBytes;
  int depth = 1;
  for (const auto& [key, item] : entries) {
    weight += static_cast<int64_t>(key.size());
    CCOE_RETURN_IF_ERROR(CheckElement(item, weight, depth));
  }
  JinjaValue value;
  value.value_ = std::make_shared<const DictData>(DictData{std::move(entries), weight, depth});
  return value;
}

JinjaValue JinjaValue::MakeNamespace() {
  JinjaValue value;
  value.value_ = std::make_shared<NamespaceData>();
  return value;
}

int64_t JinjaValue::AsInteger() const {
  return is_bool() ? std::get<bool>(value_) : std::get<int64_t>(value_);
}

double JinjaValue::AsNumber() const {
  return is_integer() ? static_cast<double>(AsInteger()) : std::get<double>(value_);
}

const JinjaValue::Dict& JinjaValue::AsDict() const {
  return is_namespace() ? std::get<NamespacePointer>(value_)->entries
                        : std::get<DictPointer>(value_)->entries;
}

absl::Status JinjaValue::SetInNamespace(const std::string& key, JinjaValue value) const {
  if (value.is_namespace()) {
    return absl::InvalidArgumentError("a namespace cannot be kept inside another value");
  }
  Dict& entries = std::get<NamespacePointer>(value_)->entries;
  for (auto& [name, entry] : entries) {
    if (name == key) {
      entry = std::move(value);
      return absl::OkStatus();
    }
  }
  if (entries.size() >= kMaxEntries) {
    return absl::InvalidArgumentError(
        absl::StrCat("a namespace has more than ", kMaxEntries, " entries"));
  }
  entries.emplace_back(key, std::move(value));
  return absl::OkStatus();
}

const JinjaValue* JinjaValue::FindEntry(absl::string_view key) const {
  for (const auto& [name, entry] : AsDict()) {
    if (name == key) return &entry;
  }
  return nullptr;
}

bool JinjaValue::Truthy() const {
  if (is_number()) return AsNumber() != 0;
  if (is_string()) return !AsString().empty();
  if (is_list()) return !AsList().empty();
  if (is_dict()) return !AsDict().empty();
  return is_namespace();
}

absl::string_view JinjaValue::KindName() const {
  static constexpr absl::string_view kNames[] = {
      "an undefined value", "none",   "a boolean", "an integer", "a float",
      "a string",           "a list", "a dict",    "a namespace"};
  return kNames[value_.index()];
}

int64_t JinjaValue::weight() const {
  if (is_string()) return kValueBytes + static_cast<int64_t>(AsString().size());
  if (is_list()) return std::get<ListPointer>(value_)->weight;
  if (is_dict()) return std::get<DictPointer>(value_)->weight;
  return kValueBytes;
}

int64_t JinjaValue::own_weight() const {
  if (is_list()) return kValueBytes * static_cast<int64_t>(AsList().size());
  if (is_dict()) return 2 * kValueBytes * static_cast<int64_t>(AsDict().size());
  return weight();
}

int JinjaValue::depth() const {
  if (is_list()) return std::get<ListPointer>(value_)->depth;
  if (is_dict()) return std::get<DictPointer>(value_)->depth;
  return 0;
}

bool JinjaEquals(const JinjaValue& left, const JinjaValue& right) {
  if (left.is_number() && right.is_number()) {
    if (left.is_integer() && right.is_integer()) return left.AsInteger() == right.AsInteger();
    return left.AsNumber() == right.AsNumber();
  }
  if (left.is_string() && right.is_string()) return left.AsString() == right.AsString();
  if (left.is_list() && right.is_list()) {
    return std::equal(left.AsList().begin(), left.AsList().end(), right.AsList().begin(),
                      right.AsList().end(), JinjaEquals);
  }
  if (left.is_dict() && right.is_dict()) {
    if (left.AsDict().size() != right.AsDict().size()) return false;
    return std::all_of(left.AsDict().begin(), left.AsDict().end(), [&](const auto& entry) {
      const JinjaValue* other = right.FindEntry(entry.first);
      return other != nullptr && JinjaEquals(entry.second, *other);
    });
  }
  if (left.is_namespace() && right.is_namespace()) return &left.AsDict() == &right.AsDict();
  return (left.is_none() && right.is_none()) || (left.is_undefined() && right.is_undefined());
}

namespace {

// Python's repr of a string.
std::string Quoted(const std::string& text) {
  const char quote = absl::StrContains(text, "'") && !absl::StrContains(text, "\"") ? '"' : '\'';
  std::string out(1, quote);
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == quote || c == '\\') {
      absl::StrAppend(&out, "\\", std::string(1, c));
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (byte < 0x20 || byte == 0x7F) {
      absl::StrAppendFormat(&out, "\\x%02x", byte);
    } else {
      out.push_back(c);
    }
  }
  out.push_back(quote);
  return out;
}

void AppendRepr(const JinjaValue& value, std::string& out) {
  if (value.is_string()) {
    out += Quoted(value.AsString());
  } else if (value.is_list()) {
    absl::string_view separator = "[";
    for (const JinjaValue& item : value.AsList()) {
      absl::StrAppend(&out, separator);
      AppendRepr(item, out);
      separator = ", ";
    }
    out += value.AsList().empty() ? "[]" : "]";
  } else if (value.is_dict()) {
    absl::string_view separator = "{";
    for (const auto& [key, item] : value.AsDict()) {
      absl::StrAppend(&out, separator, Quoted(key), ": ");
      AppendRepr(item, out);
      separator = ", ";
    }
    out += value.AsDict().empty() ? "{}" : "}";
  } else {
    out += value.is_undefined() ? "Undefined" : JinjaText(value);
  }
}

std::string JsonString(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// Writes JSON; a level is a line of its own when indented.
class JsonWriter {
 public:
  explicit JsonWriter(int indent) : indent_(indent) {}

  absl::Status Write(const JinjaValue& value, int level) {
    if (value.is_string()) {
      out_ += JsonString(value.AsString());
    } else if (value.is_bool()) {
      out_ += value.Truthy() ? "true" : "false";
    } else if (value.is_none()) {
      out_ += "null";
    } else if (value.is_number()) {
      out_ += JinjaText(value);
    } else if (value.is_list()) {
      return WriteList(value.AsList(), level);
    } else if (value.is_dict()) {
      return WriteDict(value.AsDict(), level);
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("tojson: JSON cannot hold ", value.KindName()));
    }
    return absl::OkStatus();
  }

  std::string Take() { return std::move(out_); }

 private:
  void Line(int level) {
    out_.push_back('\n');
    out_.append(static_cast<size_t>(level) * indent_, ' ');
  }

  void Open(bool first, int level) {
    if (!first) out_ += indent_ < 0 ? ", " : ",";
    if (indent_ >= 0) Line(level + 1);
  }

  void Close(bool empty, int level) {
    if (!empty && indent_ >= 0) Line(level);
  }

  absl::Status WriteList(const JinjaValue::List& items, int level) {
    out_.push_back('[');
    bool first = true;
    for (const JinjaValue& item : items) {
      Open(first, level);
      first = false;
      CCOE_RETURN_IF_ERROR(Write(item, level + 1));
    }
    Close(items.empty(), level);
    out_.push_back(']');
    return absl::OkStatus();
  }

  absl::Status WriteDict(const JinjaValue::Dict& entries, int level) {
    out_.push_back('{');
    bool first = true;
    for (const auto& [key, item] : entries) {
      Open(first, level);
      first = false;
      absl::StrAppend(&out_, JsonString(key), ": ");
      CCOE_RETURN_IF_ERROR(Write(item, level + 1));
    }
    Close(entries.empty(), level);
    out_.push_back('}');
    return absl::OkStatus();
  }

  int indent_;
  std::string out_;
};

}  // namespace

std::string JinjaText(const JinjaValue& value) {
  if (value.is_undefined()) return "";
  if (value.is_none()) return "None";
  if (value.is_bool()) return value.Truthy() ? "True" : "False";
  if (value.is_integer()) return absl::StrCat(value.AsInteger());
  if (value.is_number()) return nlohmann::json(value.AsNumber()).dump();
  if (value.is_string()) return value.AsString();
  if (value.is_namespace()) return "<namespace>";
  std::string out;
  AppendRepr(value, out);
  return out;
}

absl::StatusOr<std::string> JinjaJson(const JinjaValue& value, int indent) {
  JsonWriter writer(indent);
  CCOE_RETURN_IF_ERROR(writer.Write(value, 0));
  return writer.Take();
}

absl::Status WrongJinjaKind(absl::string_view function, absl::string_view expected,
                            const JinjaValue& found) {
  std::string what = absl::StrCat(function, ": expected ", expected, ", found ", found.KindName());
  if (found.is_undefined()) absl::StrAppend(&what, " ('", found.UndefinedName(), "')");
  return absl::InvalidArgumentError(what);
}

}  // namespace ccoe::chat_template
