// SPDX-License-Identifier: Apache-2.0
// What the configs of mixture-of-experts models have in common, and their families but DeepSeek's.
#ifndef CCOE_RUNTIME_MODEL_FAMILIES_MOE_H_
#define CCOE_RUNTIME_MODEL_FAMILIES_MOE_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/model/families/config_reader.h"
#include "runtime/model/model_spec.h"

namespace ccoe::model {

// Experts, their width (under `width_key`) and num_experts_per_tok of them chosen by softmax, not
// renormalised, without shared ones. The number of experts may stand under num_local_experts,
// num_experts or n_routed_experts; those that are there agree. `experts_key` is the family's own,
// for messages. INVALID_ARGUMENT also where more experts are chosen than there are.
absl::StatusOr<MoeSpec> ParseMoe(const ConfigReader& config, absl::string_view experts_key,
                                 absl::string_view width_key);

// Puts the experts in the place of the layer's dense block. The activation stays.
void SetExperts(const MoeSpec& moe, LayerSpec& layer);

// Qwen's choice of layers: every decoder_sparse_step-th, but for those in mlp_only_layers.
absl::Status SetSparseLayers(const ConfigReader& config, const MoeSpec& moe, ModelSpec& spec);

// The parsers of the table in hf_config.cc.
absl::StatusOr<ModelSpec> ParseGrok(const ConfigReader& config);
absl::StatusOr<ModelSpec> ParseGrokPort(const ConfigReader& config);
absl::StatusOr<ModelSpec> ParseMixtral(const ConfigReader& config);
absl::StatusOr<ModelSpec> ParseOlmoe(const ConfigReader& config);
absl::StatusOr<ModelSpec> ParseQwen2Moe(const ConfigReader& config);
absl::StatusOr<ModelSpec> ParseQwen3Moe(const ConfigReader& config);

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_FAMILIES_MOE_H_
