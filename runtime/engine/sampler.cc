#include "runtime/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"

namespace ccoe::engine {
namespace {

constexpr float kHeldBack = -std::numeric_limits<float>::infinity();
constexpr uint32_t kExponentBits = 0x7f800000u;
constexpr size_t kLanes = 8;         // independent maxima, so that the compiler vectorises the scan
constexpr size_t kFirstSorted = 64;  // most top-p sets are smaller

bool IsNonFinite(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return (bits & kExponentBits) == kExponentBits;
}

float MaxOf(absl::Span<const float> values) {
  float lanes[kLanes];
  std::fill(lanes, lanes + kLanes, kHeldBack);
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) {
    for (size_t j = 0; j < kLanes; ++j)
      lanes[j] = values[i + j] > lanes[j] ? values[i + j] : lanes[j];
  }
  for (; i < values.size(); ++i) lanes[0] = std::max(lanes[0], values[i]);
  return *std::max_element(lanes, lanes + kLanes);
}

bool AllFinite(absl::Span<const float> values) {
  uint32_t found = 0;
  for (float value : values) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    found |= static_cast<uint32_t>((bits & kExponentBits) == kExponentBits);
  }
  return found == 0;
}

absl::Status NonFinite(const SampleRequest& request) {
  const auto bad = std::find_if(request.logits.begin(), request.logits.end(), IsNonFinite);
  return absl::InternalError(absl::StrCat("logits for position ", request.position,
                                          ": expected finite numbers, found ", *bad,
                                          " at token id ", bad - request.logits.begin()));
}

// The finaliser of MurmurHash3: each input bit reaches each output bit.
uint64_t Mix(uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdULL;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53ULL;
  return x ^ (x >> 33);
}

// Inverse of the cumulative distribution: the index whose slice of [0, total) holds u * total.
template <typename WeightAt>
size_t Pick(size_t count, double total, double u, WeightAt weight_at) {
  const double target = u * total;
  double sum = 0.0;
  size_t last = 0;  // rounding may leave the sum just below the target
  for (size_t i = 0; i < count; ++i) {
    const double weight = weight_at(i);
    if (weight <= 0.0) continue;
    last = i;
    sum += weight;
    if (sum > target) return i;
  }
  return last;
}

double Weight(float logit, float max_logit, float temperature) {
  return std::exp((static_cast<double>(logit) - max_logit) / temperature);
}

}  // namespace

bool NeedsCounts(const SamplingParams& params) {
  return params.repetition_penalty != 1.0f || params.presence_penalty != 0.0f ||
         params.frequency_penalty != 0.0f;
}

double UniformAt(uint64_t seed, int64_t position) {
  const uint64_t key = Mix(seed + 0x9e3779b97f4a7c15ULL);
  const uint64_t bits = Mix(key ^ Mix(static_cast<uint64_t>(position) + 0xd1b54a32d192ed03ULL));
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

absl::StatusOr<GeneratedToken> Sampler::Sample(const SampleRequest& request) {
  const SamplingParams& params = *request.params;
  if (!AllFinite(request.logits)) return NonFinite(request);
  const absl::Span<const float> logits = Adjusted(request);
  const float max_logit = MaxOf(logits);
  if (max_logit == kHeldBack) {
    return absl::InternalError(
        absl::StrCat("position ", request.position, ": every token id is held back (min_tokens)"));
  }
  GeneratedToken token;
  if (params.temperature == 0.0f) {
    token.token_id =
        static_cast<int32_t>(std::find(logits.begin(), logits.end(), max_logit) - logits.begin());
  } else {
    token.token_id = Draw(logits, max_logit, request);
  }
  if (params.logprobs >= 0) FillLogprobs(request.logits, params.logprobs, token);
  return token;
}

// The logits after penalties, without the ids held back; the request's own where neither applies.
absl::Span<const float> Sampler::Adjusted(const SampleRequest& request) {
  const SamplingParams& params = *request.params;
  const bool penalties = NeedsCounts(params) && request.counts != nullptr;
  if (!penalties && request.held_back.empty()) return request.logits;
  adjusted_.assign(request.logits.begin(), request.logits.end());
  if (penalties) {
    for (const auto& [id, count] : request.counts->answer_counts()) {
      float& logit = adjusted_[id];
      logit = logit > 0.0f ? logit / params.repetition_penalty : logit * params.repetition_penalty;
      if (count > 0)
        logit -= params.presence_penalty + params.frequency_penalty * static_cast<float>(count);
      logit =
          std::clamp(logit, -std::numeric_limits<float>::max(), std::numeric_limits<float>::max());
    }
  }
  for (int32_t id : request.held_back) adjusted_[id] = kHeldBack;
  return adjusted_;
}

int32_t Sampler::Draw(absl::Span<const float> logits, float max_logit,
                      const SampleRequest& request) {
  const SamplingParams& params = *request.params;
  const bool top_k = params.top_k > 0 && static_cast<size_t>(params.top_k) < logits.size();
  if (!top_k && params.top_p >= 1.0f) return DrawUnsorted(logits, max_logit, request);

  candidates_.resize(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) candidates_[i] = {logits[i], static_cast<int32_t>(i)};
  size_t kept = candidates_.size();
  if (top_k) {
    kept = static_cast<size_t>(params.top_k);
    SortNext(0, kept);
    candidates_.resize(kept);
  }
  if (params.top_p < 1.0f) kept = KeepTopP(top_k ? kept : 0, max_logit, params);
  const auto weight_at = [&](size_t i) {
    const double weight = Weight(candidates_[i].logit, max_logit, params.temperature);
    return weight >= params.min_p ? weight : 0.0;  // the most likely id weighs 1
  };
  double total = 0.0;
  for (size_t i = 0; i < kept; ++i) total += weight_at(i);
  return candidates_[Pick(kept, total, UniformAt(request.seed, request.position), weight_at)].id;
}

int32_t Sampler::DrawUnsorted(absl::Span<const float> logits, float max_logit,
                              const SampleRequest& request) {
  const SamplingParams& params = *request.params;
  weights_.resize(logits.size());
  double total = 0.0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double weight = Weight(logits[i], max_logit, params.temperature);
    weights_[i] = weight >= params.min_p ? weight : 0.0;
    total += weights_[i];
  }
  return static_cast<int32_t>(Pick(weights_.size(), total,
                                   UniformAt(request.seed, request.position),
                                   [this](size_t i) { return weights_[i]; }));
}

// Puts the `count` most likely of candidates_[sorted, end) in order at `sorted`.
void Sampler::SortNext(size_t sorted, size_t count) {
  const auto more_likely = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  };
  const auto begin = candidates_.begin() + sorted;
  const auto middle = begin + std::min(count, candidates_.size() - sorted);
  std::partial_sort(begin, middle, candidates_.end(), more_likely);
}

// How many of the candidates top-p keeps; candidates_[0, sorted) is in order already.
size_t Sampler::KeepTopP(size_t sorted, float max_logit, const SamplingParams& params) {
  double total = 0.0;
  for (const Candidate& c : candidates_) total += Weight(c.logit, max_logit, params.temperature);
  const double wanted = params.top_p * total;
  double sum = 0.0;
  size_t chunk = kFirstSorted;
  for (size_t i = 0; i < candidates_.size(); ++i) {
    if (i == sorted) {
      SortNext(sorted, chunk);
      sorted = std::min(sorted + chunk, candidates_.size());
      chunk *= 8;
    }
    sum += Weight(candidates_[i].logit, max_logit, params.temperature);
    if (sum >= wanted) return i + 1;
  }
  return candidates_.size();
}

void Sampler::FillLogprobs(absl::Span<const float> logits, int32_t best_count,
                           GeneratedToken& token) {
  const double max_logit = MaxOf(logits);
  double sum = 0.0;
  for (float logit : logits) sum += std::exp(logit - max_logit);
  const double log_sum = max_logit + std::log(sum);
  token.logprob = static_cast<float>(logits[token.token_id] - log_sum);
  if (best_count == 0) return;
  candidates_.resize(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) candidates_[i] = {logits[i], static_cast<int32_t>(i)};
  SortNext(0, static_cast<size_t>(best_count));
  const size_t count = std::min(static_cast<size_t>(best_count), logits.size());
  for (size_t i = 0; i < count; ++i) {
    token.best.push_back({candidates_[i].id, static_cast<float>(candidates_[i].logit - log_sum)});
  }
}

}  // namespace ccoe::engine
