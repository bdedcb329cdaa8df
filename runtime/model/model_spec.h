// What a decoder-only model is: the plain struct every family's config.json is parsed into.
#ifndef CCOE_RUNTIME_MODEL_MODEL_SPEC_H_
#define CCOE_RUNTIME_MODEL_MODEL_SPEC_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "kernels/attention.h"
#include "kernels/ops.h"

namespace ccoe::model {

// Layers [first, last) of a model.
struct LayerRange {
  int32_t first = 0;
  int32_t last = 0;

  int32_t size() const { return last - first; }
  bool empty() const { return last <= first; }
  bool Contains(LayerRange other) const { return first <= other.first && other.last <= last; }
  friend bool operator==(LayerRange a, LayerRange b) {
    return a.first == b.first && a.last == b.last;
  }
};

enum class RopeScaling : uint8_t { kNone, kLinear, kLlama3 };

// Rotary embedding. kLinear divides positions by `factor`; kLlama3 rescales low frequencies
// (Llama 3.1's rule).
struct RopeSpec {
  double theta = 10000.0;
  kernels::RopeStyle style = kernels::RopeStyle::kHalfSplit;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  int64_t original_max_positions = 0;
};

enum class QkNorm : uint8_t { kNone, kPerHead, kWholeProjection };

struct AttentionSpec {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  bool qkv_bias = false;
  bool output_bias = false;
  QkNorm qk_norm = QkNorm::kNone;
  int64_t sliding_window = 0;  // tokens, the row itself included; 0: full attention
  float scale = 0.0f;          // on q.k, usually head_dim^-0.5
  float soft_cap = 0.0f;       // 0: none
};

enum class FfnKind : uint8_t { kDense };

struct FfnSpec {
  FfnKind kind = FfnKind::kDense;
  int64_t intermediate = 0;
  kernels::Activation activation = kernels::Activation::kSilu;
  bool bias = false;
};

struct LayerSpec {
  AttentionSpec attention;
  FfnSpec ffn;
};

struct ModelSpec {
  std::string family;  // "llama", "mistral", "qwen2", "qwen3"
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t max_positions = 0;  // the context, prompt and answer together, in tokens
  float norm_eps = 1e-5f;
  bool tied_head = false;  // the LM head is the embedding matrix
  float embedding_multiplier = 1.0f;
  float logit_multiplier = 1.0f;
  float logit_soft_cap = 0.0f;  // 0: none
  RopeSpec rope;
  std::vector<LayerSpec> layers;
  std::vector<int32_t>
      eos_token_ids;          // from config.json and generation_config.json, without repeats
  int32_t bos_token_id = -1;  // -1: none

  int32_t layer_count() const { return static_cast<int32_t>(layers.size()); }
};

// INVALID_ARGUMENT naming the value, what was expected and what was found, where the spec is absurd
// or contradicts itself (a zero or huge size, heads not a multiple of kv_heads, an odd head_dim,
// ids outside the vocabulary).
absl::Status Validate(const ModelSpec& spec);

// All that decides what the model computes, as text: equal for two specs exactly if the same
// weights give the same logits. Leaves out the family's name, the length of the context and the
// special tokens.
std::string MathsText(const ModelSpec& spec);

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_MODEL_SPEC_H_
