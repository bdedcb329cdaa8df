// SPDX-License-Identifier: Apache-2.0
#include "runtime/tokenizer/json_fields.h"

#include <sys/stat.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"

namespace ccoe::tokenizer {

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) {
    return absl::NotFoundError(absl::StrCat(path, ": no such file, or not readable"));
  }
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected a regular file"));
  }
  const size_t size = static_cast<size_t>(info.st_size);
  if (size > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": expected at most ", max_bytes, " bytes, found ", size));
  }
  std::ifstream file(path, std::ios::binary);
  std::string content(size, '\0');
  if (!file.read(content.data(), static_cast<std::streamsize>(size))) {
    return absl::DataLossError(absl::StrCat(path, ": cannot read its ", size, " bytes"));
  }
  return content;
}

absl::StatusOr<Json> ReadJsonFile(const std::string& path, size_t max_bytes) {
  CCOE_ASSIGN_OR_RETURN(const std::string content, ReadFile(path, max_bytes));
  Json json = Json::parse(content, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": not valid JSON (", content.size(), " bytes; truncated or corrupt?)"));
  }
  return json;
}

absl::Status WrongJsonType(const std::string& where, const std::string& expected,
                           const Json& found) {
  return absl::InvalidArgumentError(
      absl::StrCat(where, ": expected ", expected, ", found ", found.type_name()));
}

absl::Status ExpectObject(const Json& value, const std::string& where) {
  return value.is_object() ? absl::OkStatus() : WrongJsonType(where, "an object", value);
}

const Json* FindField(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

absl::StatusOr<std::string> StringField(const Json& object, const char* key,
                                        const std::string& where) {
  const Json* field = FindField(object, key);
  const std::string place = absl::StrCat(where, ".", key);
  if (field == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(place, ": expected a string, found nothing"));
  }
  if (!field->is_string()) return WrongJsonType(place, "a string", *field);
  return field->get_ref<const std::string&>();
}

absl::StatusOr<std::string> StringFieldOr(const Json& object, const char* key,
                                          const std::string& fallback, const std::string& where) {
  if (FindField(object, key) == nullptr) return fallback;
  return StringField(object, key, where);
}

absl::StatusOr<const Json*> ArrayField(const Json& object, const char* key,
                                       const std::string& where) {
  const Json* field = FindField(object, key);
  const std::string place = absl::StrCat(where, ".", key);
  if (field == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(place, ": expected a list, found nothing"));
  }
  if (!field->is_array()) return WrongJsonType(place, "a list", *field);
  return field;
}

absl::StatusOr<bool> BoolField(const Json& object, const char* key, bool fallback,
                               const std::string& where) {
  const Json* field = FindField(object, key);
  if (field == nullptr) return fallback;
  if (!field->is_boolean())
    return WrongJsonType(absl::StrCat(where, ".", key), "a boolean", *field);
  return field->get<bool>();
}

absl::StatusOr<int64_t> IntField(const Json& object, const char* key, int64_t maximum,
                                 const std::string& where) {
  const Json* field = FindField(object, key);
  const std::string place = absl::StrCat(where, ".", key);
  const std::string expected = absl::StrCat("an integer in [0, ", maximum, "]");
  if (field == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(place, ": expected ", expected, ", found nothing"));
  }
  if (!field->is_number_integer()) return WrongJsonType(place, expected, *field);
  const bool fits = field->is_number_unsigned()
                        ? field->get<uint64_t>() <= static_cast<uint64_t>(maximum)
                        : field->get<int64_t>() >= 0 && field->get<int64_t>() <= maximum;
  if (!fits) {
    return absl::InvalidArgumentError(
        absl::StrCat(place, ": expected ", expected, ", found ", field->dump()));
  }
  return field->get<int64_t>();
}

}  // namespace ccoe::tokenizer
