// SPDX-License-Identifier: Apache-2.0
// A tiny model and experts over it with random weights, for tests of what runs them.
#ifndef CCOE_TESTS_RUNTIME_EXPERTS_TINY_EXPERT_H_
#define CCOE_TESTS_RUNTIME_EXPERTS_TINY_EXPERT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/experts/bundle.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/safetensors.h"
#include "runtime/model/weights.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::experts {

// Three Llama layers of width 32; the experts take the place of the upper two.
inline model::ModelSpec TinySpec() {
  model::ModelSpec spec;
  spec.family = "llama";
  spec.vocab_size = 16;
  spec.hidden_size = 32;
  spec.max_positions = 128;
  model::LayerSpec layer;
  layer.attention.heads = 4;
  layer.attention.kv_heads = 2;
  layer.attention.head_dim = 8;
  layer.attention.scale = 0.35f;
  layer.ffn.intermediate = 48;
  spec.layers.assign(3, layer);
  return spec;
}

inline constexpr model::LayerRange kTinyLayers = {1, 3};

// Writes bundles' weights to a folder of its own.
class TinyExperts {
 public:
  // An expert whose weights follow from `seed`.
  Bundle Make(const std::string& name, uint32_t seed) {
    std::mt19937 random(seed);
    std::map<std::string, std::vector<float>> values;
    std::map<std::string, model::TensorView> tensors;
    auto add = [&](const std::string& tensor, std::vector<int64_t> shape) {
      int64_t size = 1;
      for (const int64_t dim : shape) size *= dim;
      std::vector<float>& data = values[tensor];
      // Norm weights near one, matrices small, so that values stay tame.
      const bool vector = shape.size() == 1;
      std::normal_distribution<float> normal(vector ? 1.0f : 0.0f, vector ? 0.1f : 0.2f);
      for (int64_t i = 0; i < size; ++i) data.push_back(normal(random));
      tensors[tensor] = {data.data(), kernels::DType::kF32, std::move(shape),
                         data.size() * sizeof(float)};
    };
    for (int32_t layer = kTinyLayers.first; layer < kTinyLayers.last; ++layer) {
      const std::string prefix = absl::StrCat("model.layers.", layer, ".");
      add(prefix + "input_layernorm.weight", {32});
      add(prefix + "self_attn.q_proj.weight", {32, 32});
      add(prefix + "self_attn.k_proj.weight", {16, 32});
      add(prefix + "self_attn.v_proj.weight", {16, 32});
      add(prefix + "self_attn.o_proj.weight", {32, 32});
      add(prefix + "post_attention_layernorm.weight", {32});
      add(prefix + "mlp.gate_proj.weight", {48, 32});
      add(prefix + "mlp.up_proj.weight", {48, 32});
      add(prefix + "mlp.down_proj.weight", {32, 48});
    }
    Bundle bundle;
    bundle.folder = folder_ / name;
    CCOE_CHECK(std::filesystem::create_directory(bundle.folder));
    CCOE_CHECK(model::WriteSafetensors(bundle.folder + "/model.safetensors", tensors).ok());
    auto weights = model::Weights::Open(bundle.folder);
    CCOE_CHECK(weights.ok());
    bundle.weights = *std::move(weights);
    bundle.manifest.expert = {name, 1};
    bundle.manifest.layers = kTinyLayers;
    return bundle;
  }

 private:
  testing::TempFolder folder_;
};

// Rows that look like hidden states.
inline std::vector<float> TinyRows(int64_t rows, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 1.0f);
  std::vector<float> values(rows * 32);
  for (float& value : values) value = normal(random);
  return values;
}

}  // namespace ccoe::experts

#endif  // CCOE_TESTS_RUNTIME_EXPERTS_TINY_EXPERT_H_
