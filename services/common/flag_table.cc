// SPDX-License-Identifier: Apache-2.0
#include "services/common/flag_table.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <numeric>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"

namespace ccoe::services {
namespace {

// Letters to add, drop or change to make one of the other (Levenshtein's distance).
size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t changed = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

constexpr int64_t kMostWhole = std::numeric_limits<int64_t>::max();

// The shortest text that reads as the same number.
std::string NumberText(double number) {
  char text[32];
  const auto end = std::to_chars(std::begin(text), std::end(text), number);
  return std::string(text, end.ptr);
}

absl::Status Expected(absl::string_view what, const std::string& found) {
  return absl::InvalidArgumentError(absl::StrCat("expected ", what, ", found \"", found, "\""));
}

std::string SecondsType(double least, double most) {
  if (least == kLeastSeconds && most == kMostSeconds) return "FLOAT:POSITIVE";
  return absl::StrCat("FLOAT:FLOAT in [", least, " - ", most, "]");
}

absl::StatusOr<absl::Duration> ParseSeconds(const std::string& text, double least, double most) {
  double seconds = 0;
  // No comparison holds for NaN.
  if (absl::SimpleAtod(text, &seconds) && seconds >= least && seconds <= most) {
    return absl::Seconds(seconds);
  }
  return Expected(least == kLeastSeconds && most == kMostSeconds
                      ? std::string("a number above 0, at most 1e9")
                      : absl::StrCat("a number from ", least, " to ", most),
                  text);
}

template <typename Whole>
FlagBinding WholeFlag(Whole* field, int64_t least, int64_t most) {
  least = std::max<int64_t>(least, std::numeric_limits<Whole>::min());
  most = std::min<int64_t>(most, std::numeric_limits<Whole>::max());
  FlagBinding flag;
  flag.quoted = false;
  flag.get = [field] { return std::vector<std::string>{absl::StrCat(*field)}; };
  flag.set = [field, least, most](const std::vector<std::string>& values) -> absl::Status {
    CCOE_ASSIGN_OR_RETURN(const int64_t value, ParseWhole(values.front(), least, most));
    *field = static_cast<Whole>(value);
    return absl::OkStatus();
  };
  return flag;
}

// One value, a list's any number, as a file writes them.
std::string ValueText(const FlagBinding& flag, const std::vector<std::string>& values) {
  const auto one = [&flag](const std::string& value) {
    return flag.quoted ? QuotedForConfig(value) : value;
  };
  if (flag.form != FlagBinding::Form::kList) return one(values.front());
  return absl::StrCat(
      "[", absl::StrJoin(values, ", ", [&](std::string* out, const auto& v) { *out += one(v); }),
      "]");
}

absl::Status CheckForm(const FlagBinding& flag, const ConfigEntry& entry) {
  if (flag.form == FlagBinding::Form::kList || !entry.is_list) return absl::OkStatus();
  return absl::InvalidArgumentError("expected one value, found a list");
}

}  // namespace

FlagBinding& FlagTable::Add(FlagBinding flag) {
  CCOE_CHECK(flag.get != nullptr && flag.set != nullptr);
  flags_.push_back(std::move(flag));
  return flags_.back();
}

FlagBinding& FlagTable::Add(const std::string& name, std::string* field, const std::string& help) {
  FlagBinding flag;
  flag.name = name;
  flag.help = help;
  flag.get = [field] { return std::vector<std::string>{*field}; };
  flag.set = [field](const std::vector<std::string>& values) {
    *field = values.front();
    return absl::OkStatus();
  };
  return Add(std::move(flag));
}

FlagBinding& FlagTable::Add(const std::string& name, bool* field, const std::string& help) {
  FlagBinding flag;
  flag.name = name;
  flag.help = help;
  flag.form = FlagBinding::Form::kSwitch;
  flag.quoted = false;
  flag.get = [field] { return std::vector<std::string>{*field ? "true" : "false"}; };
  flag.set = [field](const std::vector<std::string>& values) {
    const bool on = values.front() == "true";
    if (!on && values.front() != "false") return NoneOf({"true", "false"}, values.front());
    *field = on;
    return absl::OkStatus();
  };
  return Add(std::move(flag));
}

FlagBinding& FlagTable::AddList(const std::string& name, std::vector<std::string>* field,
                                const std::string& help) {
  FlagBinding flag;
  flag.name = name;
  flag.help = help;
  flag.form = FlagBinding::Form::kList;
  flag.get = [field] { return *field; };
  flag.set = [field](const std::vector<std::string>& values) {
    *field = values;
    return absl::OkStatus();
  };
  return Add(std::move(flag));
}

FlagBinding& FlagTable::AddOnly(const std::string& name, std::vector<std::string>* field,
                                const std::string& help) {
  FlagBinding& flag = AddList(name, field, help);
  flag.form = FlagBinding::Form::kValue;
  flag.get = [field] {
    return std::vector<std::string>(field->begin(), field->begin() + (field->empty() ? 0 : 1));
  };
  return flag;
}

FlagBinding& FlagTable::AddWhole(const std::string& name, int64_t* field, int64_t least,
                                 int64_t most, const std::string& help) {
  FlagBinding flag = WholeFlag(field, least, most);
  flag.name = name;
  flag.help = help;
  flag.type = WholeType(least, most);
  return Add(std::move(flag));
}

FlagBinding& FlagTable::AddWhole(const std::string& name, int* field, int64_t least, int64_t most,
                                 const std::string& help) {
  FlagBinding flag = WholeFlag(field, least, most);
  flag.name = name;
  flag.help = help;
  flag.type = WholeType(least, most);
  return Add(std::move(flag));
}

FlagBinding& FlagTable::AddSeconds(const std::string& name, absl::Duration* field, double least,
                                   double most, const std::string& help) {
  FlagBinding flag;
  flag.name = name;
  flag.help = help;
  flag.type = SecondsType(least, most);
  flag.quoted = false;
  flag.get = [field] {
    return std::vector<std::string>{NumberText(absl::ToDoubleSeconds(*field))};
  };
  flag.set = [field, least, most](const std::vector<std::string>& values) -> absl::Status {
    CCOE_ASSIGN_OR_RETURN(*field, ParseSeconds(values.front(), least, most));
    return absl::OkStatus();
  };
  return Add(std::move(flag));
}

FlagBinding& FlagTable::AddNamed(const std::string& name, const std::vector<std::string>& choices,
                                 const std::string& help) {
  FlagBinding flag;
  flag.name = name;
  flag.help = help;
  flag.type = absl::StrCat("TEXT:{", absl::StrJoin(choices, ","), "}");
  flags_.push_back(std::move(flag));
  return flags_.back();
}

void FlagTable::Append(FlagTable other) {
  for (FlagBinding& flag : other.flags_) flags_.push_back(std::move(flag));
}

FlagBinding& FlagTable::Get(const std::string& name) {
  const auto found = std::find_if(flags_.begin(), flags_.end(),
                                  [&](const FlagBinding& flag) { return flag.name == name; });
  CCOE_CHECK(found != flags_.end());
  return *found;
}

std::string DidYouMean(absl::string_view word, const std::vector<std::string>& names) {
  const auto distance = [&](const std::string& name) { return EditDistance(word, name); };
  const auto nearest =
      std::min_element(names.begin(), names.end(),
                       [&](const auto& a, const auto& b) { return distance(a) < distance(b); });
  if (nearest == names.end()) return "";
  const bool near = distance(*nearest) <= std::max<size_t>(1, nearest->size() / 3);
  return near ? absl::StrCat("; did you mean \"", *nearest, "\"?") : "";
}

absl::Status NoneOf(const std::vector<std::string>& names, const std::string& found) {
  const size_t last = names.size() - 1;
  const std::string but_last = absl::StrJoin(names.begin(), names.begin() + last, ", ");
  return Expected(last == 0 ? names[0] : absl::StrCat(but_last, " or ", names[last]), found);
}

absl::StatusOr<int64_t> ParseWhole(const std::string& text, int64_t least, int64_t most) {
  int64_t value = 0;
  if (absl::SimpleAtoi(text, &value) && value >= least && value <= most) return value;
  return Expected(most == kMostWhole ? absl::StrCat("a whole number of at least ", least)
                                     : absl::StrCat("a whole number from ", least, " to ", most),
                  text);
}

std::string WholeType(int64_t least, int64_t most) {
  if (most == kMostWhole && least == 1) return "INT:POSITIVE";
  if (most == kMostWhole && least == 0) return "INT:NONNEGATIVE";
  if (most == kMostWhole) return "INT";
  return absl::StrCat("INT:INT in [", least, " - ", most, "]");
}

FlagTable Together(std::vector<FlagTable> tables) {
  FlagTable together = tables.front();
  for (FlagBinding& flag : together.flags()) {
    std::vector<FlagBinding> all;
    for (FlagTable& table : tables) all.push_back(table.Get(flag.name));
    flag.set = [all](const std::vector<std::string>& values) {
      for (const FlagBinding& each : all) CCOE_RETURN_IF_ERROR(each.set(values));
      return absl::OkStatus();
    };
  }
  return together;
}

absl::Status ReadConfigSection(const ConfigSection& section, const std::string& file,
                               FlagTable& table) {
  for (const ConfigEntry& entry : section.entries) {
    const auto error = [&](absl::string_view problem) {
      return absl::InvalidArgumentError(
          absl::StrCat(file, ":", entry.line, ": [", section.name, "] ", entry.key, ": ", problem));
    };
    FlagBinding* found = nullptr;
    std::vector<std::string> known;
    for (FlagBinding& flag : table.flags()) {
      if (!flag.in_config) continue;
      known.push_back(flag.name);
      if (flag.name == entry.key) found = &flag;
    }
    if (found == nullptr) {
      const std::string near = DidYouMean(entry.key, known);
      return error(near.empty()
                       ? absl::StrCat("no such key; expected one of ", absl::StrJoin(known, ", "))
                       : absl::StrCat("no such key", near));
    }
    absl::Status set = CheckForm(*found, entry);
    if (set.ok()) set = found->set(entry.values);
    if (!set.ok()) return error(set.message());
    found->required = false;
  }
  return absl::OkStatus();
}

std::string ConfigSectionText(const std::string& section, const FlagTable& table, bool with_help) {
  std::string text = absl::StrCat("[", section, "]\n");
  for (const FlagBinding& flag : table.flags()) {
    if (!flag.in_config) continue;
    if (with_help) {
      absl::StrAppend(&text, "\n# ", flag.help, flag.required ? " Required." : "", "\n");
    }
    const std::vector<std::string> values = flag.get();
    const bool list = flag.form == FlagBinding::Form::kList;
    const bool missing = flag.required && values == std::vector<std::string>{""};
    if (list || (!values.empty() && !missing)) {
      absl::StrAppend(&text, flag.name, " = ", ValueText(flag, values), "\n");
    } else if (with_help) {
      const std::string unset = flag.shown_default.empty() ? "" : "  # " + flag.shown_default;
      absl::StrAppend(&text, "#", flag.name, " =", unset, "\n");
    }
  }
  return text;
}

}  // namespace ccoe::services
