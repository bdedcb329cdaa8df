#include "tests/testing/reference_model.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/safetensors.h"

namespace ccoe::testing {
namespace {

using model::AttentionSpec;
using model::FfnSpec;
using model::ModelSpec;
using model::QkNorm;
using Rows = std::vector<std::vector<double>>;

// Looks tensors up and keeps the first error.
class Tensors {
 public:
  explicit Tensors(const model::Weights& weights) : weights_(weights) {}

  std::vector<double> Get(const std::string& name) {
    const auto view = weights_.Raw(name);
    if (!view.ok()) {
      if (status_.ok()) status_ = view.status();
      return {};
    }
    const auto* data = static_cast<const float*>(view->data);
    return std::vector<double>(data, data + view->size_bytes / sizeof(float));
  }
  const absl::Status& status() const { return status_; }

 private:
  const model::Weights& weights_;
  absl::Status status_;
};

void NormSpan(double* x, size_t size, const std::vector<double>& weight, double eps) {
  double sum = 0.0;
  for (size_t i = 0; i < size; ++i) sum += x[i] * x[i];
  const double scale = 1.0 / std::sqrt(sum / static_cast<double>(size) + eps);
  for (size_t i = 0; i < size; ++i) x[i] *= scale * weight[i];
}

Rows Normed(Rows x, const std::vector<double>& weight, double eps) {
  for (auto& row : x) NormSpan(row.data(), row.size(), weight, eps);
  return x;
}

Rows Linear(const Rows& x, const std::vector<double>& weight,
            const std::vector<double>& bias = {}) {
  Rows out;
  for (const auto& row : x) {
    std::vector<double> y(weight.size() / row.size());
    for (size_t o = 0; o < y.size(); ++o) {
      y[o] = bias.empty() ? 0.0 : bias[o];
      for (size_t i = 0; i < row.size(); ++i) y[o] += weight[o * row.size() + i] * row[i];
    }
    out.push_back(y);
  }
  return out;
}

void Add(const Rows& x, Rows& sum) {
  for (size_t r = 0; r < x.size(); ++r) {
    for (size_t i = 0; i < x[r].size(); ++i) sum[r][i] += x[r][i];
  }
}

double FrequencyOf(const model::RopeSpec& rope, int64_t i, int64_t dim) {
  const double frequency =
      std::pow(rope.theta, -2.0 * static_cast<double>(i) / static_cast<double>(dim));
  return rope.scaling == model::RopeScaling::kLinear ? frequency / rope.factor : frequency;
}

void Rotate(const ModelSpec& spec, int64_t head_dim, Rows& x) {
  const int64_t half = head_dim / 2;
  for (size_t position = 0; position < x.size(); ++position) {
    for (size_t head = 0; head < x[position].size(); head += static_cast<size_t>(head_dim)) {
      double* h = &x[position][head];
      for (int64_t i = 0; i < half; ++i) {
        const double angle = static_cast<double>(position) * FrequencyOf(spec.rope, i, head_dim);
        const double a = h[i], b = h[i + half];
        h[i] = a * std::cos(angle) - b * std::sin(angle);
        h[i + half] = b * std::cos(angle) + a * std::sin(angle);
      }
    }
  }
}

void NormHeads(const AttentionSpec& spec, const std::vector<double>& weight, double eps, Rows& x) {
  const auto head_dim = static_cast<size_t>(spec.head_dim);
  for (auto& row : x) {
    const size_t span = spec.qk_norm == QkNorm::kPerHead ? head_dim : row.size();
    for (size_t begin = 0; begin < row.size(); begin += span)
      NormSpan(&row[begin], span, weight, eps);
  }
}

// One head's output for the row at `position`.
std::vector<double> AttendHead(const AttentionSpec& spec, int64_t head, int64_t position,
                               const Rows& q, const Rows& k, const Rows& v) {
  const int64_t dim = spec.head_dim;
  const int64_t kv_begin = head / (spec.heads / spec.kv_heads) * dim;
  const int64_t first =
      spec.sliding_window > 0 ? std::max<int64_t>(0, position - spec.sliding_window + 1) : 0;
  std::vector<double> scores;
  for (int64_t j = first; j <= position; ++j) {
    double score = 0.0;
    for (int64_t i = 0; i < dim; ++i) score += q[position][head * dim + i] * k[j][kv_begin + i];
    score *= spec.scale;
    scores.push_back(spec.soft_cap > 0 ? spec.soft_cap * std::tanh(score / spec.soft_cap) : score);
  }
  const double top = *std::max_element(scores.begin(), scores.end());
  double sum = 0.0;
  std::vector<double> out(static_cast<size_t>(dim));
  for (size_t j = 0; j < scores.size(); ++j) {
    const double weight = std::exp(scores[j] - top);
    sum += weight;
    for (int64_t i = 0; i < dim; ++i)
      out[i] += weight * v[first + static_cast<int64_t>(j)][kv_begin + i];
  }
  for (double& value : out) value /= sum;
  return out;
}

void Attention(const ModelSpec& spec, const AttentionSpec& attention, const std::string& layer,
               Tensors& tensors, Rows& hidden) {
  const std::string name = layer + "self_attn.";
  const auto bias = [&](const char* projection, bool wanted) {
    return wanted ? tensors.Get(name + projection + ".bias") : std::vector<double>();
  };
  const Rows x = Normed(hidden, tensors.Get(layer + "input_layernorm.weight"), spec.norm_eps);
  Rows q = Linear(x, tensors.Get(name + "q_proj.weight"), bias("q_proj", attention.qkv_bias));
  Rows k = Linear(x, tensors.Get(name + "k_proj.weight"), bias("k_proj", attention.qkv_bias));
  const Rows v = Linear(x, tensors.Get(name + "v_proj.weight"), bias("v_proj", attention.qkv_bias));
  if (attention.qk_norm != QkNorm::kNone) {
    NormHeads(attention, tensors.Get(name + "q_norm.weight"), spec.norm_eps, q);
    NormHeads(attention, tensors.Get(name + "k_norm.weight"), spec.norm_eps, k);
  }
  Rotate(spec, attention.head_dim, q);
  Rotate(spec, attention.head_dim, k);
  Rows attended(hidden.size());
  for (size_t position = 0; position < hidden.size(); ++position) {
    for (int64_t head = 0; head < attention.heads; ++head) {
      const auto out = AttendHead(attention, head, static_cast<int64_t>(position), q, k, v);
      attended[position].insert(attended[position].end(), out.begin(), out.end());
    }
  }
  Add(Linear(attended, tensors.Get(name + "o_proj.weight"), bias("o_proj", attention.output_bias)),
      hidden);
}

double Activate(kernels::Activation activation, double x) {
  switch (activation) {
    case kernels::Activation::kSilu:
      return x / (1.0 + std::exp(-x));
    case kernels::Activation::kGeluTanh:
      return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
    case kernels::Activation::kGeluErf:
      return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
  }
  return 0.0;
}

void Ffn(const ModelSpec& spec, const FfnSpec& ffn, const std::string& layer, Tensors& tensors,
         Rows& hidden) {
  const std::string name = layer + "mlp.";
  const auto bias = [&](const char* projection) {
    return ffn.bias ? tensors.Get(name + projection + ".bias") : std::vector<double>();
  };
  const Rows x =
      Normed(hidden, tensors.Get(layer + "post_attention_layernorm.weight"), spec.norm_eps);
  Rows gate = Linear(x, tensors.Get(name + "gate_proj.weight"), bias("gate_proj"));
  const Rows up = Linear(x, tensors.Get(name + "up_proj.weight"), bias("up_proj"));
  for (size_t r = 0; r < gate.size(); ++r) {
    for (size_t i = 0; i < gate[r].size(); ++i)
      gate[r][i] = Activate(ffn.activation, gate[r][i]) * up[r][i];
  }
  Add(Linear(gate, tensors.Get(name + "down_proj.weight"), bias("down_proj")), hidden);
}

// Names and shapes of all tensors of a spec.
std::map<std::string, std::vector<int64_t>> ShapesOf(const ModelSpec& spec) {
  std::map<std::string, std::vector<int64_t>> shapes;
  const int64_t hidden = spec.hidden_size;
  shapes["model.embed_tokens.weight"] = {spec.vocab_size, hidden};
  shapes["model.norm.weight"] = {hidden};
  if (!spec.tied_head) shapes["lm_head.weight"] = {spec.vocab_size, hidden};
  for (int32_t i = 0; i < spec.layer_count(); ++i) {
    const AttentionSpec& a = spec.layers[i].attention;
    const FfnSpec& f = spec.layers[i].ffn;
    const std::string layer = absl::StrCat("model.layers.", i, ".");
    const auto linear = [&](const std::string& name, int64_t rows, int64_t cols, bool bias) {
      shapes[layer + name + ".weight"] = {rows, cols};
      if (bias) shapes[layer + name + ".bias"] = {rows};
    };
    shapes[layer + "input_layernorm.weight"] = {hidden};
    shapes[layer + "post_attention_layernorm.weight"] = {hidden};
    linear("self_attn.q_proj", a.heads * a.head_dim, hidden, a.qkv_bias);
    linear("self_attn.k_proj", a.kv_heads * a.head_dim, hidden, a.qkv_bias);
    linear("self_attn.v_proj", a.kv_heads * a.head_dim, hidden, a.qkv_bias);
    linear("self_attn.o_proj", hidden, a.heads * a.head_dim, a.output_bias);
    linear("mlp.gate_proj", f.intermediate, hidden, f.bias);
    linear("mlp.up_proj", f.intermediate, hidden, f.bias);
    linear("mlp.down_proj", hidden, f.intermediate, f.bias);
    if (a.qk_norm == QkNorm::kNone) continue;
    const bool whole = a.qk_norm == QkNorm::kWholeProjection;
    shapes[layer + "self_attn.q_norm.weight"] = {whole ? a.heads * a.head_dim : a.head_dim};
    shapes[layer + "self_attn.k_norm.weight"] = {whole ? a.kv_heads * a.head_dim : a.head_dim};
  }
  return shapes;
}

}  // namespace

ModelSpec TinySpec() {
  ModelSpec spec;
  spec.family = "llama";
  spec.vocab_size = 50;
  spec.hidden_size = 24;
  spec.max_positions = 128;
  model::LayerSpec layer;
  layer.attention.heads = 4;
  layer.attention.kv_heads = 2;
  layer.attention.head_dim = 8;
  layer.attention.scale = 1.0f / std::sqrt(8.0f);
  layer.ffn.intermediate = 40;
  spec.layers.assign(2, layer);
  return spec;
}

absl::Status WriteTinyWeights(const ModelSpec& spec, const std::string& folder, uint64_t seed) {
  std::mt19937 random(static_cast<uint32_t>(seed));
  std::map<std::string, std::vector<float>> values;
  std::map<std::string, model::TensorView> tensors;
  for (const auto& [name, shape] : ShapesOf(spec)) {
    const bool vector = shape.size() == 1;
    std::vector<float>& data = values[name];
    data.resize(static_cast<size_t>(vector ? shape[0] : shape[0] * shape[1]));
    std::normal_distribution<float> normal(
        0.0f, vector ? 0.3f : 1.5f / std::sqrt(static_cast<float>(shape.back())));
    const float mean = name.find("norm") != std::string::npos ? 1.0f : 0.0f;
    for (float& value : data) value = mean + normal(random);
    tensors[name] = {data.data(), kernels::DType::kF32, shape, data.size() * sizeof(float)};
  }
  return model::WriteSafetensors(folder + "/model.safetensors", tensors);
}

absl::StatusOr<std::vector<double>> ReferenceLogits(const ModelSpec& spec,
                                                    const model::Weights& weights,
                                                    absl::Span<const int32_t> ids) {
  Tensors tensors(weights);
  const auto table = tensors.Get("model.embed_tokens.weight");
  const auto head = spec.tied_head ? table : tensors.Get("lm_head.weight");
  CCOE_RETURN_IF_ERROR(tensors.status());
  Rows hidden;
  for (const int32_t id : ids) {
    const auto row = table.begin() + id * spec.hidden_size;
    hidden.emplace_back(row, row + spec.hidden_size);
    for (double& value : hidden.back()) value *= spec.embedding_multiplier;
  }
  for (int32_t i = 0; i < spec.layer_count(); ++i) {
    const std::string layer = absl::StrCat("model.layers.", i, ".");
    Attention(spec, spec.layers[i].attention, layer, tensors, hidden);
    CCOE_RETURN_IF_ERROR(tensors.status());
    Ffn(spec, spec.layers[i].ffn, layer, tensors, hidden);
    CCOE_RETURN_IF_ERROR(tensors.status());
  }
  std::vector<double> logits;
  for (const auto& row :
       Linear(Normed(hidden, tensors.Get("model.norm.weight"), spec.norm_eps), head)) {
    for (const double value : row) {
      const double x = value * spec.logit_multiplier;
      logits.push_back(
          spec.logit_soft_cap > 0 ? spec.logit_soft_cap * std::tanh(x / spec.logit_soft_cap) : x);
    }
  }
  return logits;
}

}  // namespace ccoe::testing
