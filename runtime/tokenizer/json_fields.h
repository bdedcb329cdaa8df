// SPDX-License-Identifier: Apache-2.0
// Reading JSON that may hold anything: each function says where it looked, what it wanted and what
// it found. `where` names the place for the message, such as "normalizer.normalizers[1]".
#ifndef CCOE_RUNTIME_TOKENIZER_JSON_FIELDS_H_
#define CCOE_RUNTIME_TOKENIZER_JSON_FIELDS_H_

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace ccoe::tokenizer {

using Json = nlohmann::json;

// The whole of a regular file. NOT_FOUND if it is missing, INVALID_ARGUMENT if longer than
// max_bytes.
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes);

// The same, parsed; INVALID_ARGUMENT if it is not JSON.
absl::StatusOr<Json> ReadJsonFile(const std::string& path, size_t max_bytes);

// INVALID_ARGUMENT "`where`: expected `expected`, found <type of found>".
absl::Status WrongJsonType(const std::string& where, const std::string& expected,
                           const Json& found);

absl::Status ExpectObject(const Json& value, const std::string& where);

// Fields of an object (`object` must be one). The first two must be there.
absl::StatusOr<std::string> StringField(const Json& object, const char* key,
                                        const std::string& where);
absl::StatusOr<const Json*> ArrayField(const Json& object, const char* key,
                                       const std::string& where);
// A missing field and null give the fallback.
absl::StatusOr<bool> BoolField(const Json& object, const char* key, bool fallback,
                               const std::string& where);
absl::StatusOr<std::string> StringFieldOr(const Json& object, const char* key,
                                          const std::string& fallback, const std::string& where);
// An integer in [0, maximum]; must be there.
absl::StatusOr<int64_t> IntField(const Json& object, const char* key, int64_t maximum,
                                 const std::string& where);

// object[key], or nullptr when it is missing or null.
const Json* FindField(const Json& object, const char* key);

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_JSON_FIELDS_H_
