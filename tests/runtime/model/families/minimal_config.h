// SPDX-License-Identifier: Apache-2.0
// Small configs of mixture-of-experts families, to change.
#ifndef CCOE_TESTS_RUNTIME_MODEL_FAMILIES_MINIMAL_CONFIG_H_
#define CCOE_TESTS_RUNTIME_MODEL_FAMILIES_MINIMAL_CONFIG_H_

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "runtime/model/families/config_reader.h"
#include "runtime/model/families/hf_config.h"

namespace ccoe::model {

// The keys of all dense families: 4 heads of 8, 4 layers.
inline nlohmann::json MinimalDense() {
  return {{"vocab_size", 100},
          {"hidden_size", 32},
          {"num_attention_heads", 4},
          {"intermediate_size", 64},
          {"num_hidden_layers", 4}};
}

// And 8 experts, 2 of them chosen, under `experts_key`; of width 16 where the width is a key of its
// own.
inline nlohmann::json MinimalMoe(const char* experts_key) {
  nlohmann::json object = MinimalDense();
  object[experts_key] = 8;
  object["num_experts_per_tok"] = 2;
  object["moe_intermediate_size"] = 16;
  return object;
}

// And latent attention: q and k of 12 + 4, values of 10, a latent of 8.
inline nlohmann::json MinimalLatent() {
  nlohmann::json object = MinimalMoe("n_routed_experts");
  object["q_lora_rank"] = nullptr;
  object["kv_lora_rank"] = 8;
  object["qk_nope_head_dim"] = 12;
  object["qk_rope_head_dim"] = 4;
  object["v_head_dim"] = 10;
  object["n_group"] = 1;
  object["topk_group"] = 1;
  return object;
}

// And the multipliers of Grok-1.
inline nlohmann::json MinimalGrok(const char* experts_key) {
  nlohmann::json object = MinimalMoe(experts_key);
  object["embedding_multiplier_scale"] = 78.5;
  object["output_multiplier_scale"] = 0.5;
  object["attn_output_multiplier"] = 0.25;
  object["max_attn_value"] = 30.0;
  return object;
}

// What `parse` makes of the object with `key` set to `value`.
inline absl::Status ParseWith(FamilyParser parse, nlohmann::json object, const char* key,
                              const nlohmann::json& value) {
  object[key] = value;
  return parse(ConfigReader(object)).status();
}

}  // namespace ccoe::model

#endif  // CCOE_TESTS_RUNTIME_MODEL_FAMILIES_MINIMAL_CONFIG_H_
