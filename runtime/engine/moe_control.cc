// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/moe_control.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "runtime/base/status_macros.h"

namespace ccoe::engine {
namespace {

enum class Choice : uint8_t { kFree, kMasked, kForced };

// What a control says about one layer: of all layers, and of this one.
struct LayerParts {
  const LayerMoeControl* all = nullptr;
  const LayerMoeControl* own = nullptr;  // null: nothing

  bool empty() const { return all->empty() && (own == nullptr || own->empty()); }
  bool steers() const {
    return !all->masked.empty() || !all->forced.empty() ||
           (own != nullptr && !(own->masked.empty() && own->forced.empty()));
  }
  int64_t Active(const model::MoeSpec& spec) const {
    if (own != nullptr && own->active_experts != 0) return own->active_experts;
    return all->active_experts != 0 ? all->active_experts : spec.gate.top_k;
  }
};

LayerParts PartsFor(const MoeControl& control, int32_t layer) {
  LayerParts parts;
  parts.all = &control.all_layers;
  const auto own = control.layers.find(layer);
  if (own != control.layers.end()) parts.own = &own->second;
  return parts;
}

template <typename Function>
void ForEachPart(const MoeControl& control, Function function) {
  function(control.all_layers);
  for (const auto& [layer, part] : control.layers) function(part);
}

absl::Status CheckExperts(absl::string_view what, const std::vector<int32_t>& experts,
                          int64_t count) {
  for (const int32_t expert : experts) {
    if (expert < 0 || expert >= count) {
      return absl::InvalidArgumentError(
          absl::StrCat(what, " expert: expected one of 0..", count - 1, ", found ", expert));
    }
  }
  return absl::OkStatus();
}

absl::Status MarkExperts(const LayerMoeControl& part, std::vector<Choice>& choices) {
  const auto count = static_cast<int64_t>(choices.size());
  CCOE_RETURN_IF_ERROR(CheckExperts("masked", part.masked, count));
  CCOE_RETURN_IF_ERROR(CheckExperts("forced", part.forced, count));
  const auto mark = [&choices](const std::vector<int32_t>& experts, Choice choice) {
    for (const int32_t expert : experts) {
      if (choices[expert] != Choice::kFree && choices[expert] != choice) {
        return absl::InvalidArgumentError(
            absl::StrCat("expert ", expert, " is both masked and forced"));
      }
      choices[expert] = choice;
    }
    return absl::OkStatus();
  };
  CCOE_RETURN_IF_ERROR(mark(part.masked, Choice::kMasked));
  return mark(part.forced, Choice::kForced);
}

// The fewest experts, neither masked nor forced, among which a row may have to choose: a gate with
// groups confines it to the experts of `top_groups` of them, whichever these are.
int64_t FewestFree(const std::vector<Choice>& choices, const kernels::GateForm& gate) {
  const int64_t group_size = static_cast<int64_t>(choices.size()) / gate.groups;
  std::vector<int64_t> free(gate.groups);
  for (size_t i = 0; i < choices.size(); ++i) {
    if (choices[i] == Choice::kFree) ++free[static_cast<int64_t>(i) / group_size];
  }
  std::sort(free.begin(), free.end());
  const int64_t groups = std::min(gate.top_groups, gate.groups);
  return std::accumulate(free.begin(), free.begin() + groups, int64_t{0});
}

absl::Status CheckLayer(const LayerParts& parts, const model::MoeSpec& spec) {
  for (const LayerMoeControl* part : {parts.all, parts.own}) {
    if (part == nullptr || part->active_experts == 0) continue;
    if (part->active_experts < 1 || part->active_experts > spec.gate.top_k) {
      return absl::InvalidArgumentError(
          absl::StrCat("active experts: expected 1..", spec.gate.top_k,
                       " (the model's top-k), found ", part->active_experts));
    }
  }
  if (!parts.steers()) return absl::OkStatus();
  std::vector<Choice> choices(spec.experts, Choice::kFree);
  CCOE_RETURN_IF_ERROR(MarkExperts(*parts.all, choices));
  if (parts.own != nullptr) CCOE_RETURN_IF_ERROR(MarkExperts(*parts.own, choices));
  const int64_t active = parts.Active(spec);
  const int64_t forced = std::count(choices.begin(), choices.end(), Choice::kForced);
  if (forced > active) {
    return absl::InvalidArgumentError(absl::StrCat("forced experts: expected at most ", active,
                                                   " (the active ones), found ", forced));
  }
  const int64_t left = FewestFree(choices, spec.gate) + forced;
  if (left < active) {
    const std::string where = spec.gate.groups == 1
                                  ? absl::StrCat("of its ", spec.experts, " experts")
                                  : absl::StrCat("in any ", spec.gate.top_groups, " of its ",
                                                 spec.gate.groups, " groups of experts");
    return absl::InvalidArgumentError(absl::StrCat("masked experts: expected at least ", active,
                                                   " (the active ones) left ", where, ", found ",
                                                   left));
  }
  return absl::OkStatus();
}

absl::Status CheckEntries(const MoeControl& control, const MoePolicy& policy) {
  int64_t entries = 0;
  ForEachPart(control, [&entries](const LayerMoeControl& part) {
    entries += static_cast<int64_t>(part.masked.size() + part.forced.size());
    if (part.active_experts != 0) ++entries;
  });
  if (entries <= policy.max_entries) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "expected at most ", policy.max_entries,
      " numbers of active experts, masked and forced experts together, found ", entries));
}

absl::Status Denied(absl::string_view what) {
  return absl::PermissionDeniedError(
      absl::StrCat("the operator of this server does not allow requests to ", what));
}

absl::Status CheckAllowed(const LayerMoeControl& part, const MoePolicy& policy) {
  if (!part.masked.empty() && !policy.allow_masks) {
    return Denied(absl::StrCat("mask experts, found expert ", part.masked[0]));
  }
  if (!part.forced.empty() && !policy.allow_forced) {
    return Denied(absl::StrCat("force experts, found expert ", part.forced[0]));
  }
  if (part.active_experts == 0) return absl::OkStatus();
  if (!policy.allow_active_experts) {
    return Denied(absl::StrCat("set the number of active experts, found ", part.active_experts));
  }
  if (part.active_experts >= policy.min_active_experts &&
      part.active_experts <= policy.max_active_experts) {
    return absl::OkStatus();
  }
  return Denied(absl::StrCat("set the number of active experts beyond ", policy.min_active_experts,
                             "..", policy.max_active_experts, ", found ", part.active_experts));
}

std::string LayerName(int32_t layer) { return absl::StrCat("moe: layer ", layer); }

absl::Status CheckPolicy(const MoeControl& control, const MoePolicy& policy) {
  CCOE_RETURN_IF_ERROR_IN(CheckAllowed(control.all_layers, policy), "moe: all layers");
  for (const auto& [layer, part] : control.layers) {
    CCOE_RETURN_IF_ERROR_IN(CheckAllowed(part, policy), LayerName(layer));
  }
  return absl::OkStatus();
}

absl::Status CheckNamedLayers(const MoeControl& control, const model::ModelSpec& spec) {
  for (const auto& [layer, part] : control.layers) {
    if (layer < 0 || layer >= spec.layer_count()) {
      return absl::InvalidArgumentError(absl::StrCat(LayerName(layer), ": expected a layer 0..",
                                                     spec.layer_count() - 1, " of the model"));
    }
    if (!spec.layers[layer].ffn.is_moe()) {
      return absl::InvalidArgumentError(absl::StrCat(
          LayerName(layer), ": expected a mixture-of-experts layer, found a dense one"));
    }
  }
  return absl::OkStatus();
}

constexpr float kInfinity = std::numeric_limits<float>::infinity();

void AppendSteering(const LayerParts& parts, int64_t experts, std::vector<float>& steering) {
  const size_t first = steering.size();
  steering.resize(first + experts, 0.0f);
  for (const LayerMoeControl* part : {parts.all, parts.own}) {
    if (part == nullptr) continue;
    for (const int32_t expert : part->masked) steering[first + expert] = -kInfinity;
    for (const int32_t expert : part->forced) steering[first + expert] = kInfinity;
  }
}

}  // namespace

bool MoeControl::empty() const {
  return all_layers.empty() && std::all_of(layers.begin(), layers.end(),
                                           [](const auto& layer) { return layer.second.empty(); });
}

absl::Status Validate(const MoePolicy& policy) {
  if (policy.min_active_experts >= 1 && policy.max_active_experts >= policy.min_active_experts &&
      policy.max_entries >= 1) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "moe policy: expected 1 <= MIN <= MAX active experts and at least one entry, found ",
      policy.min_active_experts, ":", policy.max_active_experts, " and ", policy.max_entries));
}

absl::Status CheckMoeControl(const MoeControl& control, const MoePolicy& policy,
                             const model::ModelSpec& spec) {
  if (control.empty()) return absl::OkStatus();
  CCOE_RETURN_IF_ERROR_IN(CheckEntries(control, policy), "moe");
  CCOE_RETURN_IF_ERROR(CheckPolicy(control, policy));
  if (!spec.has_moe()) {
    return absl::InvalidArgumentError(
        "moe: expected a model with mixture-of-experts layers, found one without");
  }
  CCOE_RETURN_IF_ERROR(CheckNamedLayers(control, spec));
  for (int32_t layer = 0; layer < spec.layer_count(); ++layer) {
    const LayerParts parts = PartsFor(control, layer);
    if (!spec.layers[layer].ffn.is_moe() || parts.empty()) continue;
    CCOE_RETURN_IF_ERROR_IN(CheckLayer(parts, spec.layers[layer].ffn.moe), LayerName(layer));
  }
  return absl::OkStatus();
}

std::optional<model::GateSteering> SteeringFor(int32_t layer, absl::Span<const RowsOfQuery> rows,
                                               const model::MoeSpec& spec) {
  const auto concerned = [layer](const RowsOfQuery& query) {
    return query.control != nullptr && !PartsFor(*query.control, layer).empty();
  };
  if (std::none_of(rows.begin(), rows.end(), concerned)) return std::nullopt;
  model::GateSteering result;
  bool any_active = false, any_steered = false;
  int32_t steered = 0;
  for (const RowsOfQuery& query : rows) {
    int64_t active = spec.gate.top_k;
    int32_t row_steering = -1;
    if (query.control != nullptr) {
      const LayerParts parts = PartsFor(*query.control, layer);
      active = parts.Active(spec);
      if (parts.steers()) {
        AppendSteering(parts, spec.experts, result.steering);
        row_steering = steered++;
      }
    }
    any_active |= active != spec.gate.top_k;
    any_steered |= row_steering >= 0;
    result.row_k.insert(result.row_k.end(), query.rows, static_cast<int32_t>(active));
    result.row_steering.insert(result.row_steering.end(), query.rows, row_steering);
  }
  if (!any_active && !any_steered) return std::nullopt;  // it asks for what the model does
  if (!any_active) result.row_k.clear();
  if (!any_steered) result.row_steering.clear();
  return result;
}

}  // namespace ccoe::engine
