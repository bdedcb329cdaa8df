// SPDX-License-Identifier: Apache-2.0
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

void Clamp(double limit, Rows& x) {
  for (auto& row : x) {
    for (double& value : row) value = std::clamp(value, -limit, limit);
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

void Attention(const ModelSpec& spec, const model::LayerSpec& layer_spec, const std::string& layer,
               Tensors& tensors, Rows& hidden) {
  const AttentionSpec& attention = layer_spec.attention;
  const bool post_norm = layer_spec.post_norms;
  const model::TensorNames& names = spec.names;
  const auto project = [&](const Rows& from, const std::string& name, bool bias) {
    return Linear(from, tensors.Get(layer + name + ".weight"),
                  bias ? tensors.Get(layer + name + ".bias") : std::vector<double>());
  };
  const auto norm = [&](const std::string& name) { return tensors.Get(layer + name + ".weight"); };
  const Rows x = Normed(hidden, norm(names.attention_norm), spec.norm_eps);
  Rows q = project(x, names.q, attention.qkv_bias);
  Rows k = project(x, names.k, attention.qkv_bias);
  Rows v = project(x, names.v, attention.qkv_bias);
  if (attention.qk_norm != QkNorm::kNone) {
    NormHeads(attention, norm(names.q_norm), spec.norm_eps, q);
    NormHeads(attention, norm(names.k_norm), spec.norm_eps, k);
  }
  if (attention.clip_qkv > 0.0f) {
    for (Rows* rows : {&q, &k, &v}) Clamp(attention.clip_qkv, *rows);
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
  Rows out = project(attended, names.attention_output, attention.output_bias);
  if (post_norm) out = Normed(out, norm(names.attention_post_norm), spec.norm_eps);
  Add(out, hidden);
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

void Ffn(const ModelSpec& spec, const model::LayerSpec& layer_spec, const std::string& layer,
         Tensors& tensors, Rows& hidden) {
  const FfnSpec& ffn = layer_spec.ffn;
  const model::TensorNames& names = spec.names;
  const auto project = [&](const Rows& from, const std::string& name) {
    return Linear(from, tensors.Get(layer + name + ".weight"),
                  ffn.bias ? tensors.Get(layer + name + ".bias") : std::vector<double>());
  };
  const auto norm = [&](const std::string& name) { return tensors.Get(layer + name + ".weight"); };
  const Rows x = Normed(hidden, norm(names.ffn_norm), spec.norm_eps);
  Rows gate = project(x, names.gate);
  const Rows up = project(x, names.up);
  for (size_t r = 0; r < gate.size(); ++r) {
    for (size_t i = 0; i < gate[r].size(); ++i)
      gate[r][i] = Activate(ffn.activation, gate[r][i]) * up[r][i];
  }
  Rows out = project(gate, names.down);
  if (layer_spec.post_norms) out = Normed(out, norm(names.ffn_post_norm), spec.norm_eps);
  Add(out, hidden);
}

// Collects names and shapes of one layer's tensors.
struct LayerShapes {
  const std::string prefix;
  std::map<std::string, std::vector<int64_t>>& shapes;

  void Matrix(const std::string& name, int64_t rows, int64_t cols, bool bias = false) {
    shapes[prefix + name + ".weight"] = {rows, cols};
    if (bias) shapes[prefix + name + ".bias"] = {rows};
  }
  void Vector(const std::string& name, int64_t size) { shapes[prefix + name + ".weight"] = {size}; }
};

void LatentShapes(const ModelSpec& spec, const AttentionSpec& a, LayerShapes& layer) {
  const model::LatentSpec& latent = a.latent;
  const int64_t q_size = a.heads * (latent.nope_dim + latent.rope_dim);
  if (latent.q_rank > 0) {
    layer.Matrix(spec.names.q_a, latent.q_rank, spec.hidden_size);
    layer.Vector(spec.names.q_a_norm, latent.q_rank);
    layer.Matrix(spec.names.q_b, q_size, latent.q_rank);
  } else {
    layer.Matrix(spec.names.q, q_size, spec.hidden_size);
  }
  layer.Matrix(spec.names.kv_a, latent.kv_rank + latent.rope_dim, spec.hidden_size);
  layer.Vector(spec.names.kv_a_norm, latent.kv_rank);
  layer.Matrix(spec.names.kv_b, a.heads * (latent.nope_dim + latent.value_dim), latent.kv_rank);
  layer.Matrix(spec.names.attention_output, spec.hidden_size, a.heads * latent.value_dim);
}

void AttentionShapes(const ModelSpec& spec, const AttentionSpec& a, LayerShapes& layer) {
  const int64_t q_size = a.heads * a.head_dim, kv_size = a.kv_heads * a.head_dim;
  layer.Matrix(spec.names.q, q_size, spec.hidden_size, a.qkv_bias);
  layer.Matrix(spec.names.k, kv_size, spec.hidden_size, a.qkv_bias);
  layer.Matrix(spec.names.v, kv_size, spec.hidden_size, a.qkv_bias);
  layer.Matrix(spec.names.attention_output, spec.hidden_size, q_size, a.output_bias);
  if (a.qk_norm == QkNorm::kNone) return;
  const bool whole = a.qk_norm == QkNorm::kWholeProjection;
  layer.Vector(spec.names.q_norm, whole ? q_size : a.head_dim);
  layer.Vector(spec.names.k_norm, whole ? kv_size : a.head_dim);
}

void MoeShapes(const ModelSpec& spec, const model::MoeSpec& moe, LayerShapes& layer) {
  const model::TensorNames& names = spec.names;
  const auto expert = [&](const std::string& prefix, int64_t width) {
    layer.Matrix(prefix + names.expert_gate, width, spec.hidden_size);
    layer.Matrix(prefix + names.expert_up, width, spec.hidden_size);
    layer.Matrix(prefix + names.expert_down, spec.hidden_size, width);
  };
  layer.Matrix(names.router, moe.experts, spec.hidden_size);
  if (moe.correction_bias) layer.shapes[layer.prefix + names.correction_bias] = {moe.experts};
  for (int64_t e = 0; e < moe.experts; ++e) {
    expert(absl::StrCat(names.expert_prefix, e, "."), moe.intermediate);
  }
  if (moe.shared != model::SharedExpert::kNone) {
    expert(names.shared_prefix, moe.shared_intermediate);
  }
  if (moe.shared == model::SharedExpert::kSigmoidGated) {
    layer.Matrix(names.shared_gate, 1, spec.hidden_size);
  }
}

// Names and shapes of all tensors of a spec.
std::map<std::string, std::vector<int64_t>> ShapesOf(const ModelSpec& spec) {
  std::map<std::string, std::vector<int64_t>> shapes;
  const model::TensorNames& names = spec.names;
  const int64_t hidden = spec.hidden_size;
  shapes[names.embedding + ".weight"] = {spec.vocab_size, hidden};
  shapes[names.final_norm + ".weight"] = {hidden};
  if (!spec.tied_head) shapes[names.head + ".weight"] = {spec.vocab_size, hidden};
  for (int32_t i = 0; i < spec.layer_count(); ++i) {
    const AttentionSpec& a = spec.layers[i].attention;
    const FfnSpec& f = spec.layers[i].ffn;
    LayerShapes layer = {absl::StrCat(names.layer_prefix, i, "."), shapes};
    layer.Vector(names.attention_norm, hidden);
    layer.Vector(names.ffn_norm, hidden);
    if (spec.layers[i].post_norms) {
      layer.Vector(names.attention_post_norm, hidden);
      layer.Vector(names.ffn_post_norm, hidden);
    }
    if (a.is_latent()) {
      LatentShapes(spec, a, layer);
    } else {
      AttentionShapes(spec, a, layer);
    }
    if (f.is_moe()) {
      MoeShapes(spec, f.moe, layer);
      continue;
    }
    layer.Matrix(names.gate, f.intermediate, hidden, f.bias);
    layer.Matrix(names.up, f.intermediate, hidden, f.bias);
    layer.Matrix(names.down, hidden, f.intermediate, f.bias);
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

ModelSpec TinyMoeSpec() {
  ModelSpec spec = TinySpec();
  model::FfnSpec ffn;
  ffn.kind = model::FfnKind::kMoe;
  ffn.moe.experts = 6;
  ffn.moe.intermediate = 16;
  ffn.moe.gate.top_k = 2;
  ffn.moe.shared = model::SharedExpert::kSigmoidGated;
  ffn.moe.shared_intermediate = 20;
  spec.layers[1].ffn = ffn;
  return spec;
}

ModelSpec TinyLatentSpec() {
  ModelSpec spec = TinySpec();
  spec.rope.style = kernels::RopeStyle::kInterleaved;
  for (model::LayerSpec& layer : spec.layers) {
    AttentionSpec& attention = layer.attention;
    attention.latent = {/*q_rank=*/10, /*kv_rank=*/12, /*nope_dim=*/6, /*rope_dim=*/4,
                        /*value_dim=*/7};
    attention.kv_heads = 1;
    attention.head_dim = 4 + 12;
    attention.scale = 1.0f / std::sqrt(10.0f);
  }
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
  const auto table = tensors.Get(spec.names.embedding + ".weight");
  const auto head = spec.tied_head ? table : tensors.Get(spec.names.head + ".weight");
  CCOE_RETURN_IF_ERROR(tensors.status());
  Rows hidden;
  for (const int32_t id : ids) {
    const auto row = table.begin() + id * spec.hidden_size;
    hidden.emplace_back(row, row + spec.hidden_size);
    for (double& value : hidden.back()) value *= spec.embedding_multiplier;
  }
  for (int32_t i = 0; i < spec.layer_count(); ++i) {
    const std::string layer = absl::StrCat(spec.names.layer_prefix, i, ".");
    Attention(spec, spec.layers[i], layer, tensors, hidden);
    CCOE_RETURN_IF_ERROR(tensors.status());
    Ffn(spec, spec.layers[i], layer, tensors, hidden);
    CCOE_RETURN_IF_ERROR(tensors.status());
  }
  std::vector<double> logits;
  for (const auto& row : Linear(
           Normed(hidden, tensors.Get(spec.names.final_norm + ".weight"), spec.norm_eps), head)) {
    for (const double value : row) {
      const double x = value * spec.logit_multiplier;
      logits.push_back(
          spec.logit_soft_cap > 0 ? spec.logit_soft_cap * std::tanh(x / spec.logit_soft_cap) : x);
    }
  }
  return logits;
}

}  // namespace ccoe::testing
