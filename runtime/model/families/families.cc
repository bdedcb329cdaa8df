#include "runtime/model/families/families.h"

namespace ccoe::model {

absl::Span<const Family> Families() {
  static constexpr Family kFamilies[] = {
      {"LlamaForCausalLM", "llama", ParseLlama},
      {"MistralForCausalLM", "mistral", ParseMistral},
      {"Qwen2ForCausalLM", "qwen2", ParseQwen2},
      {"Qwen3ForCausalLM", "qwen3", ParseQwen3},
      {"MixtralForCausalLM", "mixtral", ParseMixtral},
      {"DeepseekForCausalLM", "deepseek", ParseDeepseek},
      {"DeepseekV2ForCausalLM", "deepseek_v2", ParseDeepseekV2},
      {"DeepseekV3ForCausalLM", "deepseek_v3", ParseDeepseekV3},
      {"GrokForCausalLM", "grok", ParseGrok},
      {"Grok1ModelForCausalLM", "grok-1", ParseGrokPort},
      {"Qwen2MoeForCausalLM", "qwen2_moe", ParseQwen2Moe},
      {"Qwen3MoeForCausalLM", "qwen3_moe", ParseQwen3Moe},
      {"OlmoeForCausalLM", "olmoe", ParseOlmoe},
  };
  return kFamilies;
}

}  // namespace ccoe::model
