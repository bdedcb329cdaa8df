#include "runtime/model/tensor_names.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace ccoe::model {

std::string LayerPrefix(const TensorNames& names, int32_t layer) {
  return absl::StrCat(names.layer_prefix, layer, ".");
}

std::string ExpertPrefix(const TensorNames& names, int32_t layer, int32_t expert) {
  return absl::StrCat(LayerPrefix(names, layer), names.expert_prefix, expert, ".");
}

std::string WeightName(absl::string_view name) { return absl::StrCat(name, ".weight"); }

std::string NormName(const TensorNames& names, absl::string_view norm) {
  return absl::StrCat(norm, names.norm_suffix);
}

std::string BiasName(absl::string_view name) { return absl::StrCat(name, ".bias"); }

std::optional<int32_t> LayerOfTensor(const TensorNames& names, absl::string_view tensor) {
  if (!absl::ConsumePrefix(&tensor, names.layer_prefix)) return std::nullopt;
  int32_t layer = 0;
  if (!absl::SimpleAtoi(tensor.substr(0, tensor.find('.')), &layer)) return std::nullopt;
  return layer;
}

}  // namespace ccoe::model
