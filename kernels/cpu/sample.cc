// SPDX-License-Identifier: Apache-2.0
// One row at a time, rows on different threads. Weights are the integers of sample_math.h, so no
// sum depends on an order; ids are selected by radix, so that flat distributions cost no more.
#include "kernels/cpu/sample.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>

#include "kernels/cpu/parallel_rows.h"
#include "kernels/cpu/scratch.h"
#include "kernels/sample_math.h"

namespace ccoe::kernels {
namespace {

constexpr float kHeldBack = -std::numeric_limits<float>::infinity();
constexpr size_t kBlock = 1024;  // ids that are looked at twice while they are in the cache

struct Candidate {
  float logit;
  int32_t id;
};

bool MoreLikely(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

struct Scan {
  float highest;
  bool finite;
};

// One pass over integers that have the order of the floats, so that the compiler vectorises it.
Scan ScanOf(absl::Span<const float> values) {
  int32_t highest = std::numeric_limits<int32_t>::min();
  uint32_t bad = 0;
  for (const float value : values) {
    const auto bits = std::bit_cast<int32_t>(value);
    const int32_t order = bits ^ ((bits >> 31) & 0x7fffffff);
    highest = order > highest ? order : highest;
    bad |= static_cast<uint32_t>(IsNonFinite(value));
  }
  return {std::bit_cast<float>(highest ^ ((highest >> 31) & 0x7fffffff)), bad == 0};
}

// A loop of floats, which the compiler vectorises, then one of integers.
void FillWeights(absl::Span<const float> logits, float max_logit, float temperature,
                 uint64_t* weights) {
  int32_t mantissas[kBlock], downs[kBlock];
  for (size_t begin = 0; begin < logits.size(); begin += kBlock) {
    const absl::Span<const float> block = logits.subspan(begin, kBlock);
    for (size_t i = 0; i < block.size(); ++i) {
      const ScaledExp e = ExpOf(block[i], max_logit, temperature);
      mantissas[i] = e.mantissa;
      downs[i] = e.down;
    }
    for (size_t i = 0; i < block.size(); ++i) {
      weights[begin + i] = StepsOf({mantissas[i], downs[i]});
    }
  }
}

// Puts the `count` most likely of [begin, end) in order at `begin`.
void SortMostLikely(Candidate* begin, Candidate* end, int64_t count) {
  std::partial_sort(begin, begin + std::min<int64_t>(count, end - begin), end, MoreLikely);
}

class RowSampler {
 public:
  RowSampler(const SampleRow& row, absl::Span<const float> logits) : row_(row), raw_(logits) {}

  SampledRow Run() {
    SampledRow out;
    const Scan raw = ScanOf(raw_);
    if (!raw.finite) {
      const auto bad = std::find_if(raw_.begin(), raw_.end(), IsNonFinite);
      out.nonfinite_id = static_cast<int32_t>(bad - raw_.begin());
      return out;
    }
    float max_logit = raw.highest;
    logits_ = raw_;
    if (!row_.counts.empty() || !row_.held_back.empty()) {
      Adjust();
      max_logit = ScanOf(logits_).highest;
      if (max_logit == kHeldBack) return out;
    }
    if (row_.temperature == 0.0f) {
      const auto best = std::find(logits_.begin(), logits_.end(), max_logit);
      out.token_id = static_cast<int32_t>(best - logits_.begin());
    } else {
      out.token_id = Draw(max_logit);
    }
    if (row_.logprobs >= 0) FillLogprobs(raw.highest, out);
    return out;
  }

 private:
  int64_t vocab() const { return static_cast<int64_t>(raw_.size()); }

  // This thread's memory: a row, a weight an id and a candidate an id.
  float* RowMemory() {
    if (memory_ == nullptr) memory_ = ThreadScratch().Floats(row_floats() + 4 * vocab());
    return memory_;
  }
  uint64_t* Weights() { return reinterpret_cast<uint64_t*>(RowMemory() + row_floats()); }
  Candidate* Candidates() { return reinterpret_cast<Candidate*>(Weights() + vocab()); }
  int64_t row_floats() const { return (vocab() + 15) / 16 * 16; }

  // logits_ become a copy with penalties and without the ids held back.
  void Adjust() {
    float* adjusted = RowMemory();
    std::copy(raw_.begin(), raw_.end(), adjusted);
    for (const TokenCount& count : row_.counts) {
      adjusted[count.id] =
          Penalized(adjusted[count.id], count.answer_count, row_.repetition_penalty,
                    row_.presence_penalty, row_.frequency_penalty);
    }
    for (const int32_t id : row_.held_back) adjusted[id] = kHeldBack;
    logits_ = absl::MakeConstSpan(adjusted, raw_.size());
  }

  int32_t Draw(float max_logit) {
    uint64_t* weights = Weights();
    FillWeights(logits_, max_logit, row_.temperature, weights);
    if (row_.top_k > 0 && row_.top_k < vocab()) {
      DropBelow(LastOf([](uint64_t) { return uint64_t{1}; },
                       [this](uint64_t) { return static_cast<uint64_t>(row_.top_k); }));
    }
    if (row_.top_p < 1.0f) {
      DropBelow(
          LastOf([](uint64_t weight) { return weight; },
                 [this](uint64_t total) { return PartAtLeast(FractionOf(row_.top_p), total); }));
    }
    const uint64_t least = LeastWeight(row_.min_p);
    uint64_t total = 0;
    for (int64_t id = 0; id < vocab(); ++id) {
      if (weights[id] < least) weights[id] = 0;
      total += weights[id];
    }
    const uint64_t target = PartBelow(FractionOf(row_.uniform), total);
    int64_t id = 0;
    for (uint64_t sum = weights[0]; sum <= target; sum += weights[++id]) {
    }
    return static_cast<int32_t>(id);
  }

  // The least likely of the most likely ids whose amounts reach `wanted`, 1 <= wanted_of(sum of
  // all) <= that sum; amount_of(weight) is the same for all ids of a logit, or 0. Digit by digit of
  // the order: which one the threshold has is where the sum from above reaches `wanted`.
  template <class Amount, class Wanted>
  Candidate LastOf(const Amount& amount_of, const Wanted& wanted_of) {
    uint64_t bins[kOrderBins];
    uint32_t order = 0, known = 0;  // the threshold's bits so far, and which they are
    uint64_t wanted = 0;
    for (int digit = 0; digit < kOrderDigits; ++digit) {
      std::fill(bins, bins + kOrderBins, 0);
      uint64_t total = 0;
      for (int64_t id = 0; id < vocab(); ++id) {
        const uint32_t o = LogitOrder(logits_[id]);
        if ((o & known) != order) continue;
        const uint64_t amount = amount_of(Weights()[id]);
        bins[(o >> OrderShift(digit)) & OrderMask(digit)] += amount;
        total += amount;
      }
      if (digit == 0) wanted = wanted_of(total);
      uint32_t bin = kOrderBins - 1;
      for (; bins[bin] < wanted; --bin) wanted -= bins[bin];
      order |= bin << OrderShift(digit);
      known |= OrderMask(digit) << OrderShift(digit);
    }
    int64_t id = 0;
    for (;; ++id) {
      if (LogitOrder(logits_[id]) != order) continue;
      const uint64_t amount = amount_of(Weights()[id]);
      if (amount >= wanted) break;
      wanted -= amount;
    }
    return {logits_[id], static_cast<int32_t>(id)};
  }

  // Less likely ids weigh nothing from now on.
  void DropBelow(const Candidate& last) {
    for (int64_t id = 0; id < vocab(); ++id) {
      if (MoreLikely(last, {logits_[id], static_cast<int32_t>(id)})) Weights()[id] = 0;
    }
  }

  void FillLogprobs(float raw_max, SampledRow& out) {
    uint64_t* weights = Weights();
    FillWeights(raw_, raw_max, 1.0f, weights);
    const uint64_t total = std::accumulate(weights, weights + vocab(), uint64_t{0});
    const double log_sum = LogSum(raw_max, total);
    out.logprob = static_cast<float>(raw_[out.token_id] - log_sum);
    if (row_.logprobs == 0) return;
    Candidate* candidates = Candidates();
    for (int64_t id = 0; id < vocab(); ++id) candidates[id] = {raw_[id], static_cast<int32_t>(id)};
    const int64_t count = std::min<int64_t>(row_.logprobs, vocab());
    SortMostLikely(candidates, candidates + vocab(), count);
    for (int64_t i = 0; i < count; ++i) {
      out.best.push_back({candidates[i].id, static_cast<float>(candidates[i].logit - log_sum)});
    }
  }

  const SampleRow& row_;
  const absl::Span<const float> raw_;
  absl::Span<const float> logits_;
  float* memory_ = nullptr;
};

}  // namespace

void CpuSampleRows(ThreadTeam* team, const SampleRowsArgs& args, absl::Span<SampledRow> out) {
  CheckSampleRows(args, out);
  const ConstMatrix& logits = args.logits;
  ParallelRows(team, logits.rows, logits.cols, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const absl::Span<const float> row(static_cast<const float*>(logits.Row(r)),
                                        static_cast<size_t>(logits.cols));
      out[r] = RowSampler(args.rows[r], row).Run();
    }
  });
}

}  // namespace ccoe::kernels
