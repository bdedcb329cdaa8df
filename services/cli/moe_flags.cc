#include "services/cli/moe_flags.h"

#include <functional>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/base/status_macros.h"
#include "services/cli/command.h"

namespace ccoe::cli {
namespace {

struct Pair {
  std::optional<int32_t> first;
  int32_t second = 0;
};

// "2" or "3:2", numbers of 0 or more.
std::optional<Pair> ParsePair(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  std::vector<int32_t> numbers(parts.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts.size() > 2 || !absl::SimpleAtoi(parts[i], &numbers[i]) || numbers[i] < 0) return {};
  }
  if (numbers.size() == 1) return Pair{std::nullopt, numbers[0]};
  return Pair{numbers[0], numbers[1]};
}

// Gives each value of `flag` to `take`, with the part of `control` that it is about.
absl::Status ForEach(absl::string_view flag, const std::vector<std::string>& values,
                     engine::MoeControl& control,
                     const std::function<bool(engine::LayerMoeControl&, int32_t)>& take) {
  for (const std::string& value : values) {
    const std::optional<Pair> pair = ParsePair(value);
    if (!pair.has_value()) {
      return UsageError(
          absl::StrCat(flag, ": expected a number, or LAYER:NUMBER, found \"", value, "\""));
    }
    engine::LayerMoeControl& part =
        pair->first.has_value() ? control.layers[*pair->first] : control.all_layers;
    if (!take(part, pair->second)) {
      return UsageError(absl::StrCat(flag, ": ", value,
                                     ": expected 1 or more, once for a layer and once for all"));
    }
  }
  return absl::OkStatus();
}

std::optional<Pair> ParseBounds(const std::string& text) {
  const std::optional<Pair> bounds = ParsePair(text);
  if (!bounds.has_value() || bounds->first.value_or(0) < 1 || bounds->second < *bounds->first) {
    return std::nullopt;
  }
  return bounds;
}

}  // namespace

void AddMoeFlags(CLI::App* command, MoeFlags& flags) {
  // One value for each time a flag is given, so that none swallows what follows it.
  AddFlag(command, "--active-experts", flags.active,
          "Mixture-of-experts models: experts that a token activates, N or LAYER:N; may be "
          "repeated.")
      .OneValueEach();
  AddFlag(command, "--mask-expert", flags.masked,
          "Mixture-of-experts models: an expert that no token may choose, LAYER:EXPERT, or EXPERT "
          "of all layers; may be repeated.")
      .OneValueEach();
  AddFlag(command, "--force-expert", flags.forced,
          "Mixture-of-experts models: an expert that every token chooses, LAYER:EXPERT, or EXPERT "
          "of all layers; may be repeated.")
      .OneValueEach();
}

absl::StatusOr<std::shared_ptr<const engine::MoeControl>> ToMoeControl(const MoeFlags& flags) {
  if (flags.active.empty() && flags.masked.empty() && flags.forced.empty()) return nullptr;
  engine::MoeControl control;
  CCOE_RETURN_IF_ERROR(ForEach(
      "--active-experts", flags.active, control, [](engine::LayerMoeControl& part, int32_t active) {
        return active > 0 && std::exchange(part.active_experts, active) == 0;
      }));
  CCOE_RETURN_IF_ERROR(ForEach("--mask-expert", flags.masked, control,
                               [](engine::LayerMoeControl& part, int32_t expert) {
                                 part.masked.push_back(expert);
                                 return true;
                               }));
  CCOE_RETURN_IF_ERROR(ForEach("--force-expert", flags.forced, control,
                               [](engine::LayerMoeControl& part, int32_t expert) {
                                 part.forced.push_back(expert);
                                 return true;
                               }));
  return std::make_shared<const engine::MoeControl>(std::move(control));
}

void AddMoePolicyFlags(CLI::App* command, MoePolicyFlags& flags) {
  AddFlag(command, "--moe-active-experts", flags.active_experts,
          "Let requests set the number of FFN experts that a token activates, within MIN:MAX. "
          "Default: not.")
      .Check([](const std::string& text) {
        return ParseBounds(text).has_value()
                   ? std::string()
                   : absl::StrCat("expected MIN:MAX with 1 <= MIN <= MAX, found \"", text, "\"");
      });
  AddSwitch(command, "--moe-allow-masks", flags.allow_masks,
            "Let requests name FFN experts that their tokens may not choose.");
  AddSwitch(command, "--moe-allow-forced", flags.allow_forced,
            "Let requests name FFN experts that all their tokens choose.");
}

engine::MoePolicy ToMoePolicy(const MoePolicyFlags& flags) {
  engine::MoePolicy policy;
  if (const std::optional<Pair> bounds = ParseBounds(flags.active_experts)) {
    policy.allow_active_experts = true;
    policy.min_active_experts = *bounds->first;
    policy.max_active_experts = bounds->second;
  }
  policy.allow_masks = flags.allow_masks;
  policy.allow_forced = flags.allow_forced;
  return policy;
}

}  // namespace ccoe::cli
