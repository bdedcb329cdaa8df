// Whole names of tensors, from how a family names its parts.
#ifndef CCOE_RUNTIME_MODEL_TENSOR_NAMES_H_
#define CCOE_RUNTIME_MODEL_TENSOR_NAMES_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "runtime/model/model_spec.h"

namespace ccoe::model {

// "model.layers.3.": what the names of a layer's tensors begin with.
std::string LayerPrefix(const TensorNames& names, int32_t layer);

// "model.layers.3.mlp.experts.7.".
std::string ExpertPrefix(const TensorNames& names, int32_t layer, int32_t expert);

// "lm_head.weight" of "lm_head".
std::string WeightName(absl::string_view name);
// The weight of a norm.
std::string NormName(const TensorNames& names, absl::string_view norm);
std::string BiasName(absl::string_view name);

// The layer a tensor belongs to; none for those outside the layers.
std::optional<int32_t> LayerOfTensor(const TensorNames& names, absl::string_view tensor);

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_TENSOR_NAMES_H_
