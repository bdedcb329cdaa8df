// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/reference/reference_ops.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace ccoe::kernels::reference {

Dense Linear(const Dense& x, const Dense& weight, const Dense& bias) {
  Dense out(x.rows, weight.rows);
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t c = 0; c < weight.rows; ++c) {
      double sum = bias.rows > 0 ? bias.at(0, c) : 0.0;
      for (int64_t k = 0; k < x.cols; ++k) sum += x.at(r, k) * weight.at(c, k);
      out.at(r, c) = sum;
    }
  }
  return out;
}

Dense LinearMagnitude(const Dense& x, const Dense& weight) {
  Dense out(x.rows, weight.rows);
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t c = 0; c < weight.rows; ++c) {
      for (int64_t k = 0; k < x.cols; ++k) out.at(r, c) += std::abs(x.at(r, k) * weight.at(c, k));
    }
  }
  return out;
}

Dense RmsNorm(const Dense& x, const Dense& weight, double eps) {
  Dense out(x.rows, x.cols);
  for (int64_t r = 0; r < x.rows; ++r) {
    double squares = 0;
    for (int64_t c = 0; c < x.cols; ++c) squares += x.at(r, c) * x.at(r, c);
    const double inverse = 1.0 / std::sqrt(squares / x.cols + eps);
    for (int64_t c = 0; c < x.cols; ++c) out.at(r, c) = x.at(r, c) * inverse * weight.at(0, c);
  }
  return out;
}

Dense RopeAngles(const RopeAnglesArgs& args, bool sines) {
  Dense out(static_cast<int64_t>(args.positions.size()),
            static_cast<int64_t>(args.frequencies.size()));
  for (int64_t r = 0; r < out.rows; ++r) {
    for (int64_t i = 0; i < out.cols; ++i) {
      const float angle = static_cast<float>(args.positions[r]) * args.frequencies[i];
      const double value = sines ? std::sin(double{angle}) : std::cos(double{angle});
      out.at(r, i) = args.magnitude * value;
    }
  }
  return out;
}

Dense Rope(const Dense& x, int64_t head_dim, const Dense& cos, const Dense& sin, RopeStyle style) {
  Dense out = x;
  const int64_t pairs = cos.cols;
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t head = 0; head < x.cols; head += head_dim) {
      for (int64_t i = 0; i < pairs; ++i) {
        const bool half = style == RopeStyle::kHalfSplit;
        const int64_t a = head + (half ? i : 2 * i);
        const int64_t b = head + (half ? i + pairs : 2 * i + 1);
        out.at(r, a) = x.at(r, a) * cos.at(r, i) - x.at(r, b) * sin.at(r, i);
        out.at(r, b) = x.at(r, b) * cos.at(r, i) + x.at(r, a) * sin.at(r, i);
      }
    }
  }
  return out;
}

Dense Attention(const AttentionShape& shape, const Dense& q, const Dense& k, const Dense& v) {
  const int64_t group = shape.heads / shape.kv_heads;
  Dense out(q.rows, q.cols);
  std::vector<double> weights(q.rows);
  for (int64_t i = 0; i < q.rows; ++i) {
    for (int64_t head = 0; head < shape.heads; ++head) {
      const int64_t q_at = head * shape.head_dim;
      const int64_t kv_at = head / group * shape.head_dim;
      const int64_t begin =
          shape.sliding_window > 0 ? std::max<int64_t>(0, i - shape.sliding_window + 1) : 0;
      double largest = -INFINITY;
      for (int64_t j = begin; j <= i; ++j) {
        double score = 0;
        for (int64_t d = 0; d < shape.head_dim; ++d)
          score += q.at(i, q_at + d) * k.at(j, kv_at + d);
        score *= shape.scale;
        if (shape.soft_cap > 0) score = shape.soft_cap * std::tanh(score / shape.soft_cap);
        weights[j] = score;
        largest = std::max(largest, score);
      }
      double sum = 0;
      for (int64_t j = begin; j <= i; ++j) sum += weights[j] = std::exp(weights[j] - largest);
      for (int64_t j = begin; j <= i; ++j) {
        for (int64_t d = 0; d < shape.head_dim; ++d)
          out.at(i, q_at + d) += weights[j] / sum * v.at(j, kv_at + d);
      }
    }
  }
  return out;
}

double Activate(Activation activation, double x) {
  switch (activation) {
    case Activation::kSilu:
      return x / (1.0 + std::exp(-x));
    case Activation::kGeluTanh:
      return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::kGeluErf:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
  }
  return 0;
}

namespace {

std::vector<double> Scores(RouterScore kind, const std::vector<double>& logits) {
  std::vector<double> scores = logits;
  if (kind == RouterScore::kSigmoid) {
    for (double& s : scores) s = 1.0 / (1.0 + std::exp(-s));
    return scores;
  }
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (double& s : scores) sum += s = std::exp(s - largest);
  for (double& s : scores) s /= sum;
  return scores;
}

// The indices of the best `count`, equal ones by index.
std::vector<int64_t> Best(const std::vector<double>& scores, int64_t count) {
  std::vector<int64_t> order(scores.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
  order.resize(count);
  return order;
}

// Minus infinity for the experts outside the best groups.
std::vector<double> WithinGroups(const GateForm& form, const std::vector<double>& selection) {
  const int64_t size = static_cast<int64_t>(selection.size()) / form.groups;
  std::vector<double> group_scores;
  for (int64_t g = 0; g < form.groups; ++g) {
    std::vector<double> members(selection.begin() + g * size, selection.begin() + (g + 1) * size);
    std::sort(members.rbegin(), members.rend());
    const bool two = form.group_score == GroupScore::kTopTwoSum && size > 1;
    group_scores.push_back(members[0] + (two ? members[1] : 0));
  }
  std::vector<double> within(selection.size(), -INFINITY);
  for (int64_t g : Best(group_scores, form.top_groups)) {
    std::copy_n(selection.begin() + g * size, size, within.begin() + g * size);
  }
  return within;
}

}  // namespace

std::vector<Choice> Gate(const GateForm& form, const std::vector<double>& logits,
                         const std::vector<double>& bias, const std::vector<double>& steering,
                         int64_t k) {
  const std::vector<double> scores = Scores(form.score, logits);
  std::vector<double> selection = scores;
  for (size_t e = 0; e < bias.size(); ++e) selection[e] += bias[e];
  selection = WithinGroups(form, selection);
  for (size_t e = 0; e < steering.size(); ++e) {
    selection[e] = steering[e] > 0 ? INFINITY : selection[e] + steering[e];
  }
  std::vector<int64_t> best = Best(selection, k);
  std::sort(best.begin(), best.end());
  std::vector<Choice> choices;
  double sum = 0;
  for (int64_t e : best) {
    if (selection[e] == -INFINITY) continue;
    choices.push_back({static_cast<int32_t>(e), scores[e]});
    sum += scores[e];
  }
  for (Choice& c : choices) c.weight = c.weight / (form.renormalize ? sum : 1.0) * form.scale;
  return choices;
}

Dense GatedFfn(Activation activation, const Dense& x, const Dense& gate, const Dense& up,
               const Dense& down) {
  Dense inner = Linear(x, gate, {});
  const Dense factor = Linear(x, up, {});
  for (size_t i = 0; i < inner.values.size(); ++i) {
    inner.values[i] = Activate(activation, inner.values[i]) * factor.values[i];
  }
  return Linear(inner, down, {});
}

namespace {

void ApplyPenalties(const SampleRow& row, std::vector<double>& logits) {
  for (const TokenCount& count : row.counts) {
    double& logit = logits[count.id];
    logit = logit > 0 ? logit / row.repetition_penalty : logit * row.repetition_penalty;
    if (count.answer_count > 0) {
      logit -= row.presence_penalty + row.frequency_penalty * count.answer_count;
    }
  }
  for (const int32_t id : row.held_back) logits[id] = -std::numeric_limits<double>::infinity();
}

}  // namespace

std::vector<double> SampleProbabilities(const SampleRow& row, const std::vector<double>& raw) {
  std::vector<double> logits = raw, probability(raw.size(), 0.0);
  ApplyPenalties(row, logits);
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  if (row.temperature == 0.0f) {
    probability[order[0]] = 1.0;
    return probability;
  }
  const double best = logits[order[0]];
  const auto weight = [&](size_t i) {
    return std::exp((logits[order[i]] - best) / row.temperature);
  };
  size_t kept = order.size();
  if (row.top_k > 0) kept = std::min<size_t>(kept, row.top_k);
  double total = 0, sum = 0;
  for (size_t i = 0; i < kept; ++i) total += weight(i);
  for (size_t i = 0; i < kept && row.top_p < 1.0f; ++i) {
    sum += weight(i);
    if (sum >= row.top_p * total) kept = i + 1;
  }
  while (weight(kept - 1) < row.min_p) --kept;
  total = 0;
  for (size_t i = 0; i < kept; ++i) total += weight(i);
  for (size_t i = 0; i < kept; ++i) probability[order[i]] = weight(i) / total;
  return probability;
}

std::vector<double> LogSoftmax(const std::vector<double>& logits) {
  const double best = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit - best);
  std::vector<double> out;
  for (const double logit : logits) out.push_back(logit - best - std::log(sum));
  return out;
}

}  // namespace ccoe::kernels::reference
