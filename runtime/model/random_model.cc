#include "runtime/model/random_model.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <new>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/half.h"
#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/safetensors.h"

namespace ccoe::model {
namespace {

using kernels::DType;

constexpr int64_t kBlockElements = 1 << 16;  // one task of the team; a multiple of 4
constexpr float kLogitDeviation = 3.0f;
constexpr double kNormEps = 1e-5;
constexpr double kRopeTheta = 10000.0;

// One tensor to be made: uniform around `mean` with the given standard deviation.
struct Recipe {
  std::string name;
  std::vector<int64_t> shape;
  float mean = 0.0f;
  float deviation = 1.0f;

  int64_t elements() const {
    int64_t product = 1;
    for (const int64_t size : shape) product *= size;
    return product;
  }
};

// All tensors. A tensor's place in this list is part of what its values depend on.
std::vector<Recipe> Recipes(const RandomModelOptions& o) {
  const int64_t q_size = o.heads * o.head_dim;
  const int64_t kv_size = o.kv_heads * o.head_dim;
  const auto inverse_root = [](int64_t n) { return 1.0f / std::sqrt(static_cast<float>(n)); };
  // Each block adds to the residual stream; this keeps the sum over all of them of order one.
  const float residual = inverse_root(2 * o.layers);
  std::vector<Recipe> recipes;
  recipes.push_back({"model.embed_tokens.weight",
                     {o.vocab_size, o.hidden_size},
                     0.0f,
                     o.tied_head ? kLogitDeviation * inverse_root(o.hidden_size) : 1.0f});
  if (!o.tied_head) {
    recipes.push_back({"lm_head.weight",
                       {o.vocab_size, o.hidden_size},
                       0.0f,
                       kLogitDeviation * inverse_root(o.hidden_size)});
  }
  recipes.push_back({"model.norm.weight", {o.hidden_size}, 1.0f, 0.1f});
  for (int64_t i = 0; i < o.layers; ++i) {
    const std::string layer = absl::StrCat("model.layers.", i, ".");
    const auto add = [&](const char* name, std::vector<int64_t> shape, float mean,
                         float deviation) {
      recipes.push_back({absl::StrCat(layer, name), std::move(shape), mean, deviation});
    };
    add("input_layernorm.weight", {o.hidden_size}, 1.0f, 0.1f);
    add("post_attention_layernorm.weight", {o.hidden_size}, 1.0f, 0.1f);
    // Twice the usual width on q, so that attention is far from uniform.
    add("self_attn.q_proj.weight", {q_size, o.hidden_size}, 0.0f,
        2.0f * inverse_root(o.hidden_size));
    add("self_attn.k_proj.weight", {kv_size, o.hidden_size}, 0.0f, inverse_root(o.hidden_size));
    add("self_attn.v_proj.weight", {kv_size, o.hidden_size}, 0.0f, inverse_root(o.hidden_size));
    add("self_attn.o_proj.weight", {o.hidden_size, q_size}, 0.0f, residual * inverse_root(q_size));
    add("mlp.gate_proj.weight", {o.intermediate_size, o.hidden_size}, 0.0f,
        inverse_root(o.hidden_size));
    add("mlp.up_proj.weight", {o.intermediate_size, o.hidden_size}, 0.0f,
        inverse_root(o.hidden_size));
    add("mlp.down_proj.weight", {o.hidden_size, o.intermediate_size}, 0.0f,
        2.0f * residual * inverse_root(o.intermediate_size));
  }
  return recipes;
}

// 64 well mixed bits of a counter (the finalizer of SplitMix64: Steele, Lea and Flood, OOPSLA
// 2014).
uint64_t Mix(uint64_t counter) {
  uint64_t z = counter + 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// Elements [begin, end) of a tensor, `begin` a multiple of 4. 16 random bits each are plenty for
// weights nobody trained.
template <typename T>
void FillBlock(const Recipe& recipe, uint64_t key, int64_t begin, int64_t end, T* out) {
  const float scale = recipe.deviation * std::sqrt(3.0f) / 32768.0f;
  for (int64_t i = begin; i < end; i += 4) {
    uint64_t bits = Mix(key + static_cast<uint64_t>(i));
    for (int64_t j = i; j < std::min(i + 4, end); ++j, bits >>= 16) {
      const float centered = static_cast<float>(static_cast<int32_t>(bits & 0xffffu)) - 32767.5f;
      kernels::FromF32(recipe.mean + scale * centered, &out[j]);
    }
  }
}

void Fill(const Recipe& recipe, uint64_t key, DType dtype, ThreadTeam& team, void* out) {
  const int64_t elements = recipe.elements();
  team.Run((elements + kBlockElements - 1) / kBlockElements, [&](int64_t block) {
    const int64_t begin = block * kBlockElements;
    const int64_t end = std::min(begin + kBlockElements, elements);
    switch (dtype) {
      case DType::kF32:
        return FillBlock(recipe, key, begin, end, static_cast<float*>(out));
      case DType::kF16:
        return FillBlock(recipe, key, begin, end, static_cast<kernels::F16*>(out));
      default:
        return FillBlock(recipe, key, begin, end, static_cast<kernels::BF16*>(out));
    }
  });
}

const char* TorchName(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "float32";
    case DType::kF16:
      return "float16";
    default:
      return "bfloat16";
  }
}

absl::Status WriteConfig(const RandomModelOptions& o, const std::string& path) {
  nlohmann::ordered_json config;
  config["architectures"] = {"LlamaForCausalLM"};
  config["model_type"] = "llama";
  config["hidden_act"] = "silu";
  config["hidden_size"] = o.hidden_size;
  config["intermediate_size"] = o.intermediate_size;
  config["num_hidden_layers"] = o.layers;
  config["num_attention_heads"] = o.heads;
  config["num_key_value_heads"] = o.kv_heads;
  config["head_dim"] = o.head_dim;
  config["vocab_size"] = o.vocab_size;
  config["max_position_embeddings"] = o.max_positions;
  config["rms_norm_eps"] = kNormEps;
  config["rope_theta"] = kRopeTheta;
  config["tie_word_embeddings"] = o.tied_head;
  config["torch_dtype"] = TorchName(o.dtype);
  const std::string text = config.dump(2) + "\n";
  return WriteFileAtomically(path, {absl::string_view(text)});
}

}  // namespace

absl::StatusOr<ModelSpec> RandomModelSpec(const RandomModelOptions& options) {
  if (options.dtype != DType::kF32 && options.dtype != DType::kF16 &&
      options.dtype != DType::kBF16) {
    return absl::InvalidArgumentError(
        absl::StrCat("random model: dtype: expected f32, f16 or bf16, found ",
                     kernels::DTypeName(options.dtype)));
  }
  if (options.layers < 1 || options.layers > 4096) {
    return absl::InvalidArgumentError(
        absl::StrCat("random model: layers: expected 1 to 4096, found ", options.layers));
  }
  ModelSpec spec;
  spec.family = "llama";
  spec.vocab_size = options.vocab_size;
  spec.hidden_size = options.hidden_size;
  spec.max_positions = options.max_positions;
  spec.norm_eps = static_cast<float>(kNormEps);
  spec.tied_head = options.tied_head;
  spec.rope.theta = kRopeTheta;
  LayerSpec layer;
  layer.attention.heads = options.heads;
  layer.attention.kv_heads = options.kv_heads;
  layer.attention.head_dim = options.head_dim;
  layer.attention.scale =
      static_cast<float>(1.0 / std::sqrt(static_cast<double>(options.head_dim)));
  layer.ffn.intermediate = options.intermediate_size;
  spec.layers.assign(static_cast<size_t>(options.layers), layer);
  CCOE_RETURN_IF_ERROR(Annotate(Validate(spec), "random model"));
  return spec;
}

int64_t ParameterCount(const RandomModelOptions& options) {
  int64_t count = 0;
  for (const Recipe& recipe : Recipes(options)) count += recipe.elements();
  return count;
}

absl::Status WriteRandomModel(const RandomModelOptions& options, const std::string& folder,
                              ThreadTeam& team) {
  CCOE_RETURN_IF_ERROR(RandomModelSpec(options).status());
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error)
    return absl::UnavailableError(absl::StrCat(folder, ": cannot be created: ", error.message()));

  const std::vector<Recipe> recipes = Recipes(options);
  const int64_t element_bytes = static_cast<int64_t>(kernels::DTypeBytes(options.dtype));
  int64_t bytes = 0;
  for (const Recipe& recipe : recipes) bytes += recipe.elements() * element_bytes;
  std::unique_ptr<char[]> memory(new (std::nothrow) char[static_cast<size_t>(bytes)]);
  if (memory == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("random model: ", bytes, " bytes of memory"));
  }
  std::map<std::string, TensorView> tensors;
  char* next = memory.get();
  for (size_t i = 0; i < recipes.size(); ++i) {
    const int64_t size = recipes[i].elements() * element_bytes;
    Fill(recipes[i], Mix(options.seed ^ Mix(i)), options.dtype, team, next);
    tensors[recipes[i].name] = {next, options.dtype, recipes[i].shape, static_cast<size_t>(size)};
    next += size;
  }
  CCOE_RETURN_IF_ERROR(
      WriteSafetensors(folder + "/model.safetensors", tensors, {{"format", "pt"}}));
  return WriteConfig(options, folder + "/config.json");
}

}  // namespace ccoe::model
