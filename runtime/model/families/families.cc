#include "runtime/model/families/families.h"

namespace ccoe::model {

absl::Span<const Family> Families() {
  static constexpr Family kFamilies[] = {
      {"LlamaForCausalLM", "llama", ParseLlama},
      {"MistralForCausalLM", "mistral", ParseMistral},
      {"Qwen2ForCausalLM", "qwen2", ParseQwen2},
      {"Qwen3ForCausalLM", "qwen3", ParseQwen3},
  };
  return kFamilies;
}

}  // namespace ccoe::model
