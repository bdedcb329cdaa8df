// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/ffn_shard.h"

#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "runtime/base/status_macros.h"

namespace ccoe::model {
namespace {

absl::Status WrongNumbers(absl::string_view text, absl::string_view part, int32_t highest) {
  constexpr size_t kShown = 80;
  return absl::InvalidArgumentError(absl::StrCat(
      "expected numbers and rising ranges from 0 to ", highest, " such as \"0-7,12\", found \"",
      part.substr(0, kShown), "\" in \"", text.substr(0, kShown), "\""));
}

// Digits only: SimpleAtoi would let signs and blanks pass.
bool ParseNumber(absl::string_view text, int32_t highest, int32_t* number) {
  if (text.empty() || text.find_first_not_of("0123456789") != absl::string_view::npos) return false;
  return absl::SimpleAtoi(text, number) && *number <= highest;
}

}  // namespace

FfnShard FfnShard::All(const ModelSpec& spec) {
  FfnShard all;
  for (int32_t layer = 0; layer < spec.layer_count(); ++layer) {
    const FfnSpec& ffn = spec.layers[static_cast<size_t>(layer)].ffn;
    if (!ffn.is_moe()) continue;
    for (int64_t expert = 0; expert < ffn.moe.experts; ++expert) {
      all.Add(layer, static_cast<int32_t>(expert));
    }
  }
  return all;
}

void FfnShard::Add(const FfnShard& other) {
  for (const auto& [layer, experts] : other.layers_) {
    layers_[layer].insert(experts.begin(), experts.end());
  }
}

bool FfnShard::Contains(int32_t layer, int32_t expert) const {
  const auto found = layers_.find(layer);
  return found != layers_.end() && found->second.count(expert) > 0;
}

bool FfnShard::Contains(const FfnShard& other) const {
  for (const auto& [layer, experts] : other.layers_) {
    for (const int32_t expert : experts) {
      if (!Contains(layer, expert)) return false;
    }
  }
  return true;
}

int64_t FfnShard::size() const {
  int64_t pairs = 0;
  for (const auto& [layer, experts] : layers_) pairs += static_cast<int64_t>(experts.size());
  return pairs;
}

absl::Status FfnShard::CheckWithin(const ModelSpec& spec) const {
  for (const auto& [layer, experts] : layers_) {
    if (layer < 0 || layer >= spec.layer_count()) {
      return absl::InvalidArgumentError(
          absl::StrCat("layer ", layer, ": expected a layer of the model, 0 to ",
                       spec.layer_count() - 1, ", for FFN experts ", NumberSetText(experts)));
    }
    const FfnSpec& ffn = spec.layers[static_cast<size_t>(layer)].ffn;
    if (!ffn.is_moe()) {
      return absl::InvalidArgumentError(
          absl::StrCat("layer ", layer, ": expected a layer with FFN experts for experts ",
                       NumberSetText(experts), ", found a dense one"));
    }
    for (const int32_t expert : {*experts.begin(), *experts.rbegin()}) {
      if (expert >= 0 && expert < ffn.moe.experts) continue;
      return absl::InvalidArgumentError(absl::StrCat("layer ", layer,
                                                     ": expected FFN experts 0 to ",
                                                     ffn.moe.experts - 1, ", found ", expert));
    }
  }
  return absl::OkStatus();
}

std::string FfnShard::ToString() const {
  if (empty()) return "no FFN experts";
  std::vector<std::pair<const std::set<int32_t>*, std::set<int32_t>>> groups;  // experts, layers
  for (const auto& [layer, experts] : layers_) {
    auto group = groups.begin();
    while (group != groups.end() && *group->first != experts) ++group;
    if (group == groups.end()) group = groups.insert(group, {&experts, {}});
    group->second.insert(layer);
  }
  return absl::StrJoin(groups, "; ", [](std::string* out, const auto& group) {
    absl::StrAppend(out, "layers ", NumberSetText(group.second), ": ", NumberSetText(*group.first));
  });
}

absl::StatusOr<std::set<int32_t>> ParseNumberSet(absl::string_view text, int32_t highest) {
  std::set<int32_t> numbers;
  // Twice what there can be: a short text could name the same long range a million times.
  int64_t left = 2 * (int64_t{highest} + 1);
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> ends =
        absl::StrSplit(part, absl::MaxSplits('-', 1));
    const bool is_range = part.find('-') != absl::string_view::npos;
    int32_t first = 0, last = 0;
    if (!ParseNumber(ends.first, highest, &first)) return WrongNumbers(text, part, highest);
    last = first;
    if (is_range && (!ParseNumber(ends.second, highest, &last) || last < first)) {
      return WrongNumbers(text, part, highest);
    }
    left -= int64_t{last} - first + 1;
    if (left < 0) {
      return absl::InvalidArgumentError(absl::StrCat("expected each number from 0 to ", highest,
                                                     " once, found some again and again"));
    }
    for (int64_t number = first; number <= last; ++number) {
      numbers.insert(numbers.end(), static_cast<int32_t>(number));
    }
  }
  return numbers;
}

std::string NumberSetText(const std::set<int32_t>& numbers) {
  std::string text;
  for (auto first = numbers.begin(); first != numbers.end();) {
    auto last = first;
    for (auto next = std::next(last); next != numbers.end() && *next == *last + 1; ++next) {
      last = next;
    }
    absl::StrAppend(&text, text.empty() ? "" : ",", *first);
    if (last != first) absl::StrAppend(&text, "-", *last);
    first = std::next(last);
  }
  return text;
}

}  // namespace ccoe::model
