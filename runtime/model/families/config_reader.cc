// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/families/config_reader.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"

namespace ccoe::model {
namespace {

// A value as it may stand in a message: short, and valid UTF-8 whatever is in it.
std::string Shown(const nlohmann::json* value) {
  if (value == nullptr) return "nothing";
  const std::string text =
      value->dump(-1, ' ', /*ensure_ascii=*/true, nlohmann::json::error_handler_t::replace);
  return text.size() <= 80 ? text : absl::StrCat(text.substr(0, 80), "...");
}

// The value where it is an integer of 64 bits.
std::optional<int64_t> AsInt(const nlohmann::json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  return std::nullopt;
}

std::optional<double> AsFinite(const nlohmann::json* value) {
  if (value == nullptr || !value->is_number()) return std::nullopt;
  const auto number = value->get<double>();
  if (!std::isfinite(number)) return std::nullopt;
  return number;
}

}  // namespace

const nlohmann::json* ConfigReader::Find(absl::string_view key) const {
  const auto found = object_.find(std::string(key));
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

bool ConfigReader::Has(absl::string_view key) const { return Find(key) != nullptr; }

bool ConfigReader::IsNull(absl::string_view key) const {
  const auto found = object_.find(std::string(key));
  return found != object_.end() && found->is_null();
}

absl::Status ConfigReader::Wrong(absl::string_view key, absl::string_view expected) const {
  return absl::InvalidArgumentError(
      absl::StrCat("key ", prefix_, key, ": expected ", expected, ", found ", Shown(Find(key))));
}

absl::Status ConfigReader::Unsupported(absl::string_view key, absl::string_view expected) const {
  return absl::UnimplementedError(Wrong(key, expected).message());
}

absl::StatusOr<int64_t> ConfigReader::Int(absl::string_view key, int64_t low, int64_t high) const {
  const nlohmann::json* value = Find(key);
  const std::optional<int64_t> number = value == nullptr ? std::nullopt : AsInt(*value);
  if (number && *number >= low && *number <= high) return *number;
  return Wrong(key, absl::StrCat("a whole number from ", low, " to ", high));
}

absl::StatusOr<int64_t> ConfigReader::IntOr(absl::string_view key, int64_t low, int64_t high,
                                            int64_t fallback) const {
  if (!Has(key)) return fallback;
  return Int(key, low, high);
}

absl::StatusOr<double> ConfigReader::Positive(absl::string_view key) const {
  const std::optional<double> number = AsFinite(Find(key));
  if (number && *number > 0.0) return *number;
  return Wrong(key, "a number > 0");
}

absl::StatusOr<double> ConfigReader::PositiveOr(absl::string_view key, double fallback) const {
  if (!Has(key)) return fallback;
  return Positive(key);
}

absl::StatusOr<double> ConfigReader::NonNegativeOr(absl::string_view key, double fallback) const {
  if (!Has(key)) return fallback;
  const std::optional<double> number = AsFinite(Find(key));
  if (number && *number >= 0.0) return *number;
  return Wrong(key, "a number >= 0");
}

absl::StatusOr<bool> ConfigReader::BoolOr(absl::string_view key, bool fallback) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return fallback;
  if (value->is_boolean()) return value->get<bool>();
  return Wrong(key, "true or false");
}

absl::StatusOr<std::string> ConfigReader::StringOr(absl::string_view key,
                                                   absl::string_view fallback) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::string(fallback);
  if (value->is_string()) return value->get<std::string>();
  return Wrong(key, "a string");
}

absl::StatusOr<std::vector<int32_t>> ConfigReader::TokenIds(absl::string_view key,
                                                            int64_t vocab_size) const {
  std::vector<int32_t> ids;
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return ids;
  const auto add = [&](const nlohmann::json& item) {
    const std::optional<int64_t> id = AsInt(item);
    if (!id || *id < 0 || *id >= vocab_size) return false;
    ids.push_back(static_cast<int32_t>(*id));
    return true;
  };
  bool good = true;
  if (value->is_array()) {
    for (const nlohmann::json& item : *value) good = good && add(item);
  } else {
    good = add(*value);
  }
  if (good) return ids;
  return Wrong(key, absl::StrCat("token ids from 0 to ", vocab_size - 1));
}

absl::StatusOr<std::vector<int64_t>> ConfigReader::Ints(absl::string_view key, int64_t low,
                                                        int64_t high) const {
  std::vector<int64_t> numbers;
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return numbers;
  const std::string expected = absl::StrCat("a list of whole numbers from ", low, " to ", high);
  if (!value->is_array()) return Wrong(key, expected);
  for (const nlohmann::json& item : *value) {
    const std::optional<int64_t> number = AsInt(item);
    if (!number || *number < low || *number > high) return Wrong(key, expected);
    numbers.push_back(*number);
  }
  return numbers;
}

absl::StatusOr<std::vector<std::string>> ConfigReader::Strings(absl::string_view key) const {
  std::vector<std::string> strings;
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return strings;
  if (!value->is_array()) return Wrong(key, "a list of strings");
  for (const nlohmann::json& item : *value) {
    if (!item.is_string()) return Wrong(key, "a list of strings");
    strings.push_back(item.get<std::string>());
  }
  return strings;
}

absl::StatusOr<std::optional<ConfigReader>> ConfigReader::Object(absl::string_view key) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_object()) return ConfigReader(*value, absl::StrCat(prefix_, key, "."));
  return Wrong(key, "an object");
}

}  // namespace ccoe::model
