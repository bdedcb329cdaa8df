// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/families/random_model.h"

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
#include "runtime/model/families/config_reader.h"
#include "runtime/model/families/deepseek.h"
#include "runtime/model/families/dense.h"
#include "runtime/model/families/hf_config.h"
#include "runtime/model/families/moe.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/safetensors.h"

namespace ccoe::model {
namespace {

using kernels::DType;

constexpr int64_t kBlockElements = 1 << 16;  // one task of the team; a multiple of 4
constexpr float kLogitDeviation = 3.0f;
constexpr double kNormEps = 1e-5;
constexpr double kRopeTheta = 10000.0;

float InverseRoot(int64_t n) { return 1.0f / std::sqrt(static_cast<float>(n)); }

// The recipes of one layer, put behind those there are.
class LayerRecipes {
 public:
  LayerRecipes(const ModelSpec& spec, int32_t layer, std::vector<RandomTensor>& recipes)
      : spec_(spec),
        layer_(spec.layers[static_cast<size_t>(layer)]),
        prefix_(LayerPrefix(spec.names, layer)),
        // Each block adds to the residual stream; this keeps the sum over all of them of order one.
        residual_(InverseRoot(2 * spec.layer_count())),
        recipes_(recipes) {}

  void AddAll() {
    const TensorNames& names = spec_.names;
    const AttentionSpec& attention = layer_.attention;
    const int64_t q_size = attention.heads * attention.head_dim;
    const int64_t kv_size = attention.kv_heads * attention.head_dim;
    const int64_t hidden = spec_.hidden_size;
    Add(names.attention_norm, {hidden}, 1.0f, 0.1f);
    Add(names.ffn_norm, {hidden}, 1.0f, 0.1f);
    // Twice the usual width on q, so that attention is far from uniform.
    Add(names.q, {q_size, hidden}, 0.0f, 2.0f * InverseRoot(hidden));
    Add(names.k, {kv_size, hidden}, 0.0f, InverseRoot(hidden));
    Add(names.v, {kv_size, hidden}, 0.0f, InverseRoot(hidden));
    Add(names.attention_output, {hidden, q_size}, 0.0f, residual_ * InverseRoot(q_size));
    if (layer_.ffn.is_moe()) {
      AddExperts(layer_.ffn.moe);
    } else {
      AddFfn(names.gate, names.up, names.down, layer_.ffn.intermediate);
    }
  }

 private:
  void Add(const std::string& name, std::vector<int64_t> shape, float mean, float deviation) {
    recipes_.push_back({prefix_ + WeightName(name), std::move(shape), mean, deviation});
  }

  void AddFfn(const std::string& gate, const std::string& up, const std::string& down,
              int64_t width) {
    const int64_t hidden = spec_.hidden_size;
    Add(gate, {width, hidden}, 0.0f, InverseRoot(hidden));
    Add(up, {width, hidden}, 0.0f, InverseRoot(hidden));
    Add(down, {hidden, width}, 0.0f, 2.0f * residual_ * InverseRoot(width));
  }

  void AddExpert(const std::string& prefix, int64_t width) {
    const TensorNames& names = spec_.names;
    AddFfn(prefix + names.expert_gate, prefix + names.expert_up, prefix + names.expert_down, width);
  }

  void AddExperts(const MoeSpec& moe) {
    // Twice the usual width here too, so that the choice does not hang on the last bits.
    Add(spec_.names.router, {moe.experts, spec_.hidden_size}, 0.0f,
        2.0f * InverseRoot(spec_.hidden_size));
    for (int64_t e = 0; e < moe.experts; ++e) {
      AddExpert(absl::StrCat(spec_.names.expert_prefix, e, "."), moe.intermediate);
    }
    if (moe.shared != SharedExpert::kNone) {
      AddExpert(spec_.names.shared_prefix, moe.shared_intermediate);
    }
  }

  const ModelSpec& spec_;
  const LayerSpec& layer_;
  const std::string prefix_;
  const float residual_;
  std::vector<RandomTensor>& recipes_;
};

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
void FillBlock(const RandomTensor& recipe, uint64_t key, int64_t begin, int64_t end, T* out) {
  const float scale = recipe.deviation * std::sqrt(3.0f) / 32768.0f;
  for (int64_t i = begin; i < end; i += 4) {
    uint64_t bits = Mix(key + static_cast<uint64_t>(i));
    for (int64_t j = i; j < std::min(i + 4, end); ++j, bits >>= 16) {
      const float centered = static_cast<float>(static_cast<int32_t>(bits & 0xffffu)) - 32767.5f;
      kernels::FromF32(recipe.mean + scale * centered, &out[j]);
    }
  }
}

void Fill(const RandomTensor& recipe, uint64_t key, DType dtype, ThreadTeam& team, void* out) {
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

// A layout: its name in config.json, and who reads it.
struct Layout {
  const char* architecture;
  const char* model_type;
  FamilyParser parse;
};

Layout LayoutOf(const RandomModelOptions& o) {
  if (o.experts == 0) return {"LlamaForCausalLM", "llama", ParseLlama};
  if (o.shared_experts == 0 && o.dense_layers == 0) {
    return {"MixtralForCausalLM", "mixtral", ParseMixtral};
  }
  return {"DeepseekForCausalLM", "deepseek", ParseDeepseek};
}

nlohmann::ordered_json ConfigOf(const RandomModelOptions& o) {
  const Layout layout = LayoutOf(o);
  nlohmann::ordered_json config;
  config["architectures"] = {layout.architecture};
  config["model_type"] = layout.model_type;
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
  if (layout.parse == ParseMixtral) {
    config["intermediate_size"] = o.expert_intermediate_size;
    config["num_local_experts"] = o.experts;
    config["num_experts_per_tok"] = o.experts_per_token;
  } else if (layout.parse == ParseDeepseek) {
    config["n_routed_experts"] = o.experts;
    config["num_experts_per_tok"] = o.experts_per_token;
    config["moe_intermediate_size"] = o.expert_intermediate_size;
    config["n_shared_experts"] = o.shared_experts;
    config["first_k_dense_replace"] = o.dense_layers;
    config["norm_topk_prob"] = true;
  }
  return config;
}

}  // namespace

RandomModelOptions MixtralShapedOptions() {
  RandomModelOptions options;
  options.layers = 8;
  options.experts = 8;
  return options;
}

absl::StatusOr<ModelSpec> RandomModelSpec(const RandomModelOptions& options) {
  if (options.dtype != DType::kF32 && options.dtype != DType::kF16 &&
      options.dtype != DType::kBF16) {
    return absl::InvalidArgumentError(
        absl::StrCat("random model: dtype: expected f32, f16 or bf16, found ",
                     kernels::DTypeName(options.dtype)));
  }
  const nlohmann::json config = ConfigOf(options);
  auto spec = LayoutOf(options).parse(ConfigReader(config));
  if (!spec.ok()) return Annotate(spec.status(), "random model");
  CCOE_RETURN_IF_ERROR_IN(Validate(*spec), "random model");
  return spec;
}

int64_t RandomTensor::elements() const {
  int64_t product = 1;
  for (const int64_t size : shape) product *= size;
  return product;
}

std::vector<RandomTensor> RandomTensors(const ModelSpec& spec) {
  const float head_deviation = kLogitDeviation * InverseRoot(spec.hidden_size);
  std::vector<RandomTensor> recipes;
  recipes.push_back({WeightName(spec.names.embedding),
                     {spec.vocab_size, spec.hidden_size},
                     0.0f,
                     spec.tied_head ? head_deviation : 1.0f});
  if (!spec.tied_head) {
    recipes.push_back(
        {WeightName(spec.names.head), {spec.vocab_size, spec.hidden_size}, 0.0f, head_deviation});
  }
  recipes.push_back({NormName(spec.names, spec.names.final_norm), {spec.hidden_size}, 1.0f, 0.1f});
  for (int32_t i = 0; i < spec.layer_count(); ++i) LayerRecipes(spec, i, recipes).AddAll();
  return recipes;
}

int64_t ParameterCount(const RandomModelOptions& options) {
  const auto spec = RandomModelSpec(options);
  if (!spec.ok()) return 0;
  int64_t count = 0;
  for (const RandomTensor& recipe : RandomTensors(*spec)) count += recipe.elements();
  return count;
}

absl::Status WriteRandomModel(const RandomModelOptions& options, const std::string& folder,
                              ThreadTeam& team) {
  CCOE_ASSIGN_OR_RETURN(const ModelSpec spec, RandomModelSpec(options));
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error)
    return absl::UnavailableError(absl::StrCat(folder, ": cannot be created: ", error.message()));

  const std::vector<RandomTensor> recipes = RandomTensors(spec);
  const int64_t element_bytes = static_cast<int64_t>(kernels::DTypeBytes(options.dtype));
  int64_t bytes = 0;
  for (const RandomTensor& recipe : recipes) bytes += recipe.elements() * element_bytes;
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
  const std::string config = ConfigOf(options).dump(2) + "\n";
  return WriteFileAtomically(folder + "/config.json", {absl::string_view(config)});
}

}  // namespace ccoe::model
