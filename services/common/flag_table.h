// SPDX-License-Identifier: Apache-2.0
// The flags of a role as data: each is bound to a field of the role's options. From the one binding
// come the flag of a command line, the environment variable, the key of a config file, and the
// config file of options that a program filled in.
//
//   options ◄─► FlagTable ─┬─► services/cli/command.h   flags with --help and environment variables
//                          ├─► ReadConfigSection        options from a file
//                          └─► ConfigSectionText        a file from options
#ifndef CCOE_SERVICES_COMMON_FLAG_TABLE_H_
#define CCOE_SERVICES_COMMON_FLAG_TABLE_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/common/config_file.h"

namespace ccoe::services {

// One flag.
struct FlagBinding {
  enum class Form { kValue, kSwitch, kList };

  std::string name;  // "kv-tokens"
  std::string help;
  Form form = Form::kValue;
  std::string type = "TEXT";  // of a value, as --help shows it: "INT:INT in [0 - 64]"
  std::string shown_default;  // in --help, where the value's own text does not say it
  bool required = false;      // wherever it comes from
  bool in_config = true;      // false: of a command line alone
  bool quoted = true;         // in a config file
  // The field's values as text: of a switch "true" or "false"; none where it is not set.
  std::function<std::vector<std::string>()> get;
  // Takes one value, of a list any number. INVALID_ARGUMENT "expected .., found ..".
  std::function<absl::Status(const std::vector<std::string>& values)> set;

  FlagBinding& Required() {
    required = true;
    return *this;
  }
  FlagBinding& ShownDefault(const std::string& text) {
    shown_default = text;
    return *this;
  }
};

// Seconds above zero, without another bound.
inline constexpr double kLeastSeconds = 1e-6;  // what is shorter or longer, no absl::Duration
inline constexpr double kMostSeconds = 1e9;    // keeps so that it reads back the same

// What is added is bound to *field, which must live as long as the table is used. Its value then is
// the default.
class FlagTable {
 public:
  FlagBinding& Add(const std::string& name, std::string* field, const std::string& help);
  FlagBinding& Add(const std::string& name, bool* field, const std::string& help);
  // A list on the command line is the flag several times.
  FlagBinding& AddList(const std::string& name, std::vector<std::string>* field,
                       const std::string& help);
  // The first of *field, which takes its place.
  FlagBinding& AddOnly(const std::string& name, std::vector<std::string>* field,
                       const std::string& help);
  // Both ends are allowed; most of int64_t: no upper bound but the field's own.
  FlagBinding& AddWhole(const std::string& name, int64_t* field, int64_t least, int64_t most,
                        const std::string& help);
  FlagBinding& AddWhole(const std::string& name, int* field, int64_t least, int64_t most,
                        const std::string& help);
  FlagBinding& AddSeconds(const std::string& name, absl::Duration* field, double least, double most,
                          const std::string& help);
  // One of `choices`, each with its name.
  template <typename T>
  FlagBinding& AddChoice(const std::string& name, T* field,
                         std::vector<std::pair<std::string, T>> choices, const std::string& help);
  // Text from "auto" to "4:8" that `get` and `set` know, with `type` for --help.
  FlagBinding& Add(FlagBinding flag);
  void Append(FlagTable other);

  // One flag of `name`; it is there.
  FlagBinding& Get(const std::string& name);
  std::vector<FlagBinding>& flags() { return flags_; }
  const std::vector<FlagBinding>& flags() const { return flags_; }

 private:
  FlagBinding& AddNamed(const std::string& name, const std::vector<std::string>& choices,
                        const std::string& help);

  std::vector<FlagBinding> flags_;
};

// "; did you mean \"listen\"?" where `word` is nearly one of `names`, else empty.
std::string DidYouMean(absl::string_view word, const std::vector<std::string>& names);
// The error of a value that is none of `names`.
absl::Status NoneOf(const std::vector<std::string>& names, const std::string& found);
// A flag's value as a number; both ends are allowed.
absl::StatusOr<int64_t> ParseWhole(const std::string& text, int64_t least, int64_t most);
// What --help says of such a flag.
std::string WholeType(int64_t least, int64_t most);

// Tables of the same flags as one that sets the fields of all; the first's are the defaults.
FlagTable Together(std::vector<FlagTable> tables);

// The fields that `section` names; `file` is for errors. What was set is not required any more.
// INVALID_ARGUMENT "FILE:LINE: .." of a key that is no flag, or with a value that is none of its.
absl::Status ReadConfigSection(const ConfigSection& section, const std::string& file,
                               FlagTable& table);

// The section that makes a struct what the table's is now: all flags but those that are not set,
// which stand there as comments if `with_help`; each then has its help above it.
std::string ConfigSectionText(const std::string& section, const FlagTable& table, bool with_help);

template <typename T>
FlagBinding& FlagTable::AddChoice(const std::string& name, T* field,
                                  std::vector<std::pair<std::string, T>> choices,
                                  const std::string& help) {
  std::vector<std::string> names;
  for (const auto& [choice, value] : choices) names.push_back(choice);
  FlagBinding& flag = AddNamed(name, names, help);
  flag.get = [field, choices]() -> std::vector<std::string> {
    for (const auto& [choice, value] : choices) {
      if (value == *field) return {choice};
    }
    return {};
  };
  flag.set = [field, choices, names](const std::vector<std::string>& values) {
    for (const auto& [choice, value] : choices) {
      if (choice != values.front()) continue;
      *field = value;
      return absl::OkStatus();
    }
    return NoneOf(names, values.front());
  };
  return flag;
}

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_FLAG_TABLE_H_
