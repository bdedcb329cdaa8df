// SPDX-License-Identifier: Apache-2.0
// The three DeepSeek generations, and what their configs have in common.
#ifndef CCOE_RUNTIME_MODEL_FAMILIES_DEEPSEEK_H_
#define CCOE_RUNTIME_MODEL_FAMILIES_DEEPSEEK_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/model/families/config_reader.h"
#include "runtime/model/model_spec.h"

namespace ccoe::model {

// ParseMoe with the n_shared_experts shared experts, stored as one MLP of their joint width.
absl::StatusOr<MoeSpec> ParseDeepseekMoe(const ConfigReader& config);

// n_group groups of experts, of which the topk_group best take part. `moe` keeps them out where
// there is one group; its group_score is the family's.
absl::Status ParseGroups(const ConfigReader& config, MoeSpec& moe);

// Experts in the layers from first_k_dense_replace on whose number moe_layer_freq divides.
absl::Status SetDeepseekLayers(const ConfigReader& config, const MoeSpec& moe, ModelSpec& spec);

// ParseModel with latent attention and dense blocks in all layers (V2 and V3). The rotated parts
// lie interleaved.
absl::StatusOr<ModelSpec> ParseLatentModel(const ConfigReader& config);

// The parsers of the table in hf_config.cc.
absl::StatusOr<ModelSpec> ParseDeepseek(const ConfigReader& config);
absl::StatusOr<ModelSpec> ParseDeepseekV2(const ConfigReader& config);
absl::StatusOr<ModelSpec> ParseDeepseekV3(const ConfigReader& config);

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_FAMILIES_DEEPSEEK_H_
