// SPDX-License-Identifier: Apache-2.0
// The text of a config file (docs/configuration.md): sections of keys with values, a subset of
// TOML.
//
//   # a comment
//   [backbone]
//   kv-tokens = 65536
//   model = "models/demo/base"        # escapes as in TOML: \" \\ \n \t \u00e9
//   bundle = ["experts/law", 'experts/math']
//   without-base-top = true
//
// CLI11 has a reader too, which ends a string at a # in it, knows no escapes, passes over what it
// does not understand and counts no lines: a path could come out as another one.
#ifndef CCOE_SERVICES_COMMON_CONFIG_FILE_H_
#define CCOE_SERVICES_COMMON_CONFIG_FILE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ccoe::services {

struct ConfigEntry {
  std::string key;
  std::vector<std::string> values;  // without quotes; one unless `is_list`
  bool is_list = false;
  int line = 0;  // from 1
};

struct ConfigSection {
  std::string name;
  std::vector<ConfigEntry> entries;
  int line = 0;
};

// INVALID_ARGUMENT "FILE:LINE: expected .., found ..": what is no section, key or value; a section
// or a key of one that comes twice.
absl::StatusOr<std::vector<ConfigSection>> ParseConfig(absl::string_view text,
                                                       const std::string& file_name);

// A string as a value, which ParseConfig reads as the same bytes.
std::string QuotedForConfig(absl::string_view text);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_CONFIG_FILE_H_
