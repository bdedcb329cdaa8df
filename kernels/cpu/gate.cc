// SPDX-License-Identifier: Apache-2.0
// Plain loops, one row at a time: sums run over experts in rising order. Beside the experts'
// matrices the gate is no work.
#include "kernels/cpu/gate.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/check_shapes.h"
#include "kernels/cpu/half.h"
#include "kernels/cpu/parallel_rows.h"
#include "runtime/base/check.h"

namespace ccoe::kernels {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

float Comparable(float score) { return std::isnan(score) ? kLowest : score; }

std::vector<float> Widened(const ConstMatrix& bias) {
  std::vector<float> wide(bias.empty() ? 0 : bias.cols);
  for (size_t i = 0; i < wide.size(); ++i) wide[i] = ElementF32(bias.data, bias.dtype, i);
  return wide;
}

// The rows of one gate, one after the other, in memory kept between rows.
class RowGate {
 public:
  RowGate(const TopKGateArgs& args, const std::vector<float>& bias)
      : args_(args),
        bias_(bias),
        experts_(args.logits.cols),
        scores_(experts_),
        selection_(experts_),
        group_open_(args.form.groups, true) {}

  void Run(int64_t row) {
    Score(static_cast<const float*>(args_.logits.Row(row)));
    for (int64_t e = 0; e < experts_; ++e) {
      selection_[e] = Comparable(bias_.empty() ? scores_[e] : scores_[e] + bias_[e]);
    }
    if (args_.form.top_groups < args_.form.groups) OpenBestGroups();
    FindCandidates(Steering(row));
    const int64_t k = args_.row_k.empty() ? args_.form.top_k : args_.row_k[row];
    ChooseBest(k);
    Write(row);
  }

 private:
  struct Candidate {
    float score;
    int32_t expert;
    bool operator<(const Candidate& other) const {
      return score != other.score ? score > other.score : expert < other.expert;
    }
  };

  const float* Steering(int64_t row) const {
    if (args_.row_steering.empty() || args_.row_steering[row] < 0) return nullptr;
    return static_cast<const float*>(args_.steering.Row(args_.row_steering[row]));
  }

  void Score(const float* logits) {
    if (args_.form.score == RouterScore::kSigmoid) {
      for (int64_t e = 0; e < experts_; ++e) scores_[e] = 1.0f / (1.0f + std::exp(-logits[e]));
      return;
    }
    const float largest = *std::max_element(logits, logits + experts_);
    float sum = 0.0f;
    for (int64_t e = 0; e < experts_; ++e) sum += scores_[e] = std::exp(logits[e] - largest);
    for (float& score : scores_) score /= sum;
  }

  float GroupScoreOf(const float* members, int64_t count) const {
    float best = kLowest, second = kLowest;
    for (int64_t i = 0; i < count; ++i) {
      second = std::max(second, std::min(best, members[i]));
      best = std::max(best, members[i]);
    }
    return args_.form.group_score == GroupScore::kTopTwoSum && count > 1 ? best + second : best;
  }

  void OpenBestGroups() {
    const int64_t size = experts_ / args_.form.groups;
    candidates_.clear();
    for (int64_t g = 0; g < args_.form.groups; ++g) {
      candidates_.push_back({GroupScoreOf(&selection_[g * size], size), static_cast<int32_t>(g)});
    }
    const auto best_end = candidates_.begin() + args_.form.top_groups;
    std::partial_sort(candidates_.begin(), best_end, candidates_.end());
    std::fill(group_open_.begin(), group_open_.end(), false);
    for (auto group = candidates_.begin(); group != best_end; ++group) {
      group_open_[group->expert] = true;
    }
  }

  // All experts that may be chosen; forced ones before all others.
  void FindCandidates(const float* steering) {
    const int64_t size = experts_ / args_.form.groups;
    candidates_.clear();
    for (int64_t e = 0; e < experts_; ++e) {
      const float steer = steering == nullptr ? 0.0f : steering[e];
      const bool forced = steer == -kLowest;
      if (steer == kLowest || (!forced && !group_open_[e / size])) continue;
      candidates_.push_back({forced ? steer : selection_[e] + steer, static_cast<int32_t>(e)});
    }
  }

  // Leaves the best k in rising order of experts.
  void ChooseBest(int64_t k) {
    const int64_t count = std::min<int64_t>(k, static_cast<int64_t>(candidates_.size()));
    std::partial_sort(candidates_.begin(), candidates_.begin() + count, candidates_.end());
    candidates_.resize(count);
    std::sort(candidates_.begin(), candidates_.end(),
              [](const Candidate& a, const Candidate& b) { return a.expert < b.expert; });
  }

  void Write(int64_t row) const {
    int32_t* experts = args_.experts + row * args_.form.top_k;
    float* weights = args_.weights + row * args_.form.top_k;
    float sum = 0.0f;
    for (const Candidate& c : candidates_) sum += scores_[c.expert];
    const bool divide = args_.form.renormalize && sum != 0.0f;
    const size_t chosen = candidates_.size();
    for (size_t i = 0; i < chosen; ++i) {
      const float score = scores_[candidates_[i].expert];
      experts[i] = candidates_[i].expert;
      weights[i] = (divide ? score / sum : score) * args_.form.scale;
    }
    std::fill(experts + chosen, experts + args_.form.top_k, -1);
    std::fill(weights + chosen, weights + args_.form.top_k, 0.0f);
  }

  const TopKGateArgs& args_;
  const std::vector<float>& bias_;
  const int64_t experts_;
  std::vector<float> scores_, selection_;
  std::vector<bool> group_open_;
  std::vector<Candidate> candidates_;
};

}  // namespace

void CpuTopKGate(ThreadTeam* team, const TopKGateArgs& args) {
  CheckShapes(args);
  const std::vector<float> bias = Widened(args.selection_bias);
  constexpr int64_t kCost = 16;  // an exponential and a place in the order, against a copy
  ParallelRows(team, args.logits.rows, kCost * args.logits.cols, [&](int64_t begin, int64_t end) {
    RowGate gate(args, bias);
    for (int64_t row = begin; row < end; ++row) gate.Run(row);
  });
}

}  // namespace ccoe::kernels
