// SPDX-License-Identifier: Apache-2.0
// Typed, checked access to the keys of a config.json.
#ifndef CCOE_RUNTIME_MODEL_FAMILIES_CONFIG_READER_H_
#define CCOE_RUNTIME_MODEL_FAMILIES_CONFIG_READER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace ccoe::model {

// The largest sizes a config may ask for: far above any model there is.
inline constexpr int64_t kMaxVocabulary = int64_t{1} << 24;
inline constexpr int64_t kMaxWidth = int64_t{1} << 20;
inline constexpr int64_t kMaxHeads = 4096;
inline constexpr int64_t kMaxHeadDim = 4096;
inline constexpr int64_t kMaxLayers = 4096;
inline constexpr int64_t kMaxPositions = int64_t{1} << 30;
inline constexpr int64_t kMaxExperts = int64_t{1} << 16;  // of one layer

// Reads keys of one JSON object. A key that is absent or null takes the fallback where there is
// one; a value of another type, or outside the stated range, is INVALID_ARGUMENT naming key,
// expected and found. `object` must outlive it.
class ConfigReader {
 public:
  // `prefix` stands before key names in messages ("rope_scaling."); "" for the top level.
  explicit ConfigReader(const nlohmann::json& object, std::string prefix = "")
      : object_(object), prefix_(std::move(prefix)) {}

  // Present and not null.
  bool Has(absl::string_view key) const;
  // Present and null.
  bool IsNull(absl::string_view key) const;

  absl::StatusOr<int64_t> Int(absl::string_view key, int64_t low, int64_t high) const;
  absl::StatusOr<int64_t> IntOr(absl::string_view key, int64_t low, int64_t high,
                                int64_t fallback) const;
  // A finite number > 0; the first where there must be one.
  absl::StatusOr<double> Positive(absl::string_view key) const;
  absl::StatusOr<double> PositiveOr(absl::string_view key, double fallback) const;
  // A finite number >= 0.
  absl::StatusOr<double> NonNegativeOr(absl::string_view key, double fallback) const;
  absl::StatusOr<bool> BoolOr(absl::string_view key, bool fallback) const;
  absl::StatusOr<std::string> StringOr(absl::string_view key, absl::string_view fallback) const;
  // One id, a list of ids, or nothing.
  absl::StatusOr<std::vector<int32_t>> TokenIds(absl::string_view key, int64_t vocab_size) const;
  // A list of whole numbers, or nothing.
  absl::StatusOr<std::vector<int64_t>> Ints(absl::string_view key, int64_t low, int64_t high) const;
  // A list of strings, or nothing.
  absl::StatusOr<std::vector<std::string>> Strings(absl::string_view key) const;
  // The object under `key`, or none.
  absl::StatusOr<std::optional<ConfigReader>> Object(absl::string_view key) const;

  // INVALID_ARGUMENT "key KEY: expected EXPECTED, found FOUND".
  absl::Status Wrong(absl::string_view key, absl::string_view expected) const;
  // The same as UNIMPLEMENTED: what the config asks for makes sense but is not supported.
  absl::Status Unsupported(absl::string_view key, absl::string_view expected) const;

 private:
  const nlohmann::json* Find(absl::string_view key) const;

  const nlohmann::json& object_;
  std::string prefix_;
};

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_FAMILIES_CONFIG_READER_H_
