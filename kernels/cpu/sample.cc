// One row at a time, rows on different threads. Weights are the integers of sample_math.h, so no
// sum depends on an order.
#include "kernels/cpu/sample.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "kernels/cpu/parallel_rows.h"
#include "kernels/cpu/scratch.h"
#include "kernels/sample_math.h"

namespace ccoe::kernels {
namespace {

constexpr float kHeldBack = -std::numeric_limits<float>::infinity();
constexpr int64_t kLanes = 8;  // independent maxima, so that the compiler vectorises the scan
constexpr int64_t kFirstSorted = 64;  // most top-p sets are smaller

struct Candidate {
  float logit;
  int32_t id;
};

bool MoreLikely(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

// The highest value; `finite` becomes whether all are (held back ids are not).
float MaxOf(absl::Span<const float> values, bool* finite) {
  float lanes[kLanes];
  uint32_t bad[kLanes] = {};
  std::fill(lanes, lanes + kLanes, kHeldBack);
  const int64_t count = static_cast<int64_t>(values.size());
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) {
      const float value = values[i + j];
      lanes[j] = value > lanes[j] ? value : lanes[j];
      bad[j] |= static_cast<uint32_t>(IsNonFinite(value));
    }
  }
  for (; i < count; ++i) {
    lanes[0] = values[i] > lanes[0] ? values[i] : lanes[0];
    bad[0] |= static_cast<uint32_t>(IsNonFinite(values[i]));
  }
  *finite = std::all_of(bad, bad + kLanes, [](uint32_t b) { return b == 0; });
  return *std::max_element(lanes, lanes + kLanes);
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
    bool finite = true;
    float max_logit = MaxOf(raw_, &finite);
    if (!finite) {
      const auto bad = std::find_if(raw_.begin(), raw_.end(), IsNonFinite);
      out.nonfinite_id = static_cast<int32_t>(bad - raw_.begin());
      return out;
    }
    const float raw_max = max_logit;
    logits_ = raw_;
    if (!row_.counts.empty() || !row_.held_back.empty()) {
      Adjust();
      max_logit = MaxOf(logits_, &finite);
      if (max_logit == kHeldBack) return out;
    }
    if (row_.temperature == 0.0f) {
      const auto best = std::find(logits_.begin(), logits_.end(), max_logit);
      out.token_id = static_cast<int32_t>(best - logits_.begin());
    } else {
      out.token_id = Draw(max_logit);
    }
    if (row_.logprobs >= 0) FillLogprobs(raw_max, out);
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
    for (int64_t id = 0; id < vocab(); ++id) {
      weights[id] = WeightOf(logits_[id], max_logit, row_.temperature);
    }
    const Candidate last = LastKept();
    const uint64_t least = LeastWeight(row_.min_p);
    uint64_t total = 0;
    for (int64_t id = 0; id < vocab(); ++id) {
      const bool kept = !MoreLikely(last, {logits_[id], static_cast<int32_t>(id)});
      if (!kept || weights[id] < least) weights[id] = 0;
      total += weights[id];
    }
    const uint64_t target = PartBelow(FractionOf(row_.uniform), total);
    int64_t id = 0;
    for (uint64_t sum = weights[0]; sum <= target; sum += weights[++id]) {
    }
    return static_cast<int32_t>(id);
  }

  // The least likely id that top-k and top-p leave.
  Candidate LastKept() {
    const bool top_k = row_.top_k > 0 && row_.top_k < vocab();
    if (!top_k && row_.top_p >= 1.0f) return {kHeldBack, std::numeric_limits<int32_t>::max()};
    Candidate* candidates = Candidates();
    int64_t count = 0;  // of ids that can be drawn at all
    for (int64_t id = 0; id < vocab(); ++id) {
      if (Weights()[id] > 0) candidates[count++] = {logits_[id], static_cast<int32_t>(id)};
    }
    int64_t sorted = 0;
    if (top_k) {
      sorted = std::min<int64_t>(row_.top_k, count);
      SortMostLikely(candidates, candidates + count, sorted);
      count = sorted;
    }
    if (row_.top_p < 1.0f) count = CountOfTopP(candidates, sorted, count);
    return candidates[count - 1];
  }

  // How many of the candidates, of which the first `sorted` are in order, top-p keeps.
  int64_t CountOfTopP(Candidate* candidates, int64_t sorted, int64_t count) {
    uint64_t total = 0;
    for (int64_t i = 0; i < count; ++i) total += Weights()[candidates[i].id];
    const uint64_t wanted = PartAtLeast(FractionOf(row_.top_p), total);
    uint64_t sum = 0;
    int64_t chunk = kFirstSorted;
    for (int64_t i = 0; i < count; ++i) {
      if (i == sorted) {
        SortMostLikely(candidates + sorted, candidates + count, chunk);
        sorted = std::min(sorted + chunk, count);
        chunk *= 8;
      }
      sum += Weights()[candidates[i].id];
      if (sum >= wanted) return i + 1;
    }
    return count;
  }

  void FillLogprobs(float raw_max, SampledRow& out) {
    uint64_t total = 0;
    for (const float logit : raw_) total += WeightOf(logit, raw_max, 1.0f);
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
