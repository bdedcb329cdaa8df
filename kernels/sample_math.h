// SPDX-License-Identifier: Apache-2.0
// The arithmetic of sampling that all devices share, so that the same logits and the same uniform
// give the same token on each: integers, and single float operations that are rounded alike
// everywhere. Nothing here may be contracted to fused operations: compile callers so.
#ifndef CCOE_KERNELS_SAMPLE_MATH_H_
#define CCOE_KERNELS_SAMPLE_MATH_H_

#include <bit>
#include <cmath>
#include <cstdint>

#include "absl/types/span.h"
#include "kernels/sample.h"
#include "runtime/base/check.h"

namespace ccoe::kernels {

// Weights count in steps of 2^-40 of the most likely id's weight. Sums of them are exact in any
// order; ids that are less than half a step are never drawn.
constexpr int kWeightBits = 40;
constexpr uint64_t kOneWeight = uint64_t{1} << kWeightBits;
constexpr int64_t kMaxSampledVocab = int64_t{1} << 23;  // so that a sum fits 63 bits

constexpr uint32_t kSignBit = 0x80000000u;
constexpr uint32_t kExponentBits = 0x7f800000u;

constexpr bool IsNonFinite(float logit) {
  return (std::bit_cast<uint32_t>(logit) & kExponentBits) == kExponentBits;
}

// Rises with the logit; the same for -0 and 0.
constexpr uint32_t LogitOrder(float logit) {
  const uint32_t bits = std::bit_cast<uint32_t>(logit);
  if (bits == kSignBit) return kSignBit;
  return (bits & kSignBit) != 0 ? ~bits : bits | kSignBit;
}

// An order is three digits of at most 11 bits, from the highest: how ids are selected by likelihood
// without sorting.
constexpr int kOrderDigits = 3;
constexpr uint32_t kOrderBins = 1u << 11;  // values of a digit
constexpr int OrderShift(int digit) { return digit == 0 ? 21 : digit == 1 ? 10 : 0; }
constexpr uint32_t OrderMask(int digit) { return digit < 2 ? kOrderBins - 1 : kOrderBins / 2 - 1; }

// The logit of an order.
constexpr float LogitAt(uint32_t order) {
  return std::bit_cast<float>((order & kSignBit) != 0 ? order & ~kSignBit : ~order);
}

// An exponential: mantissa * 2^-24 * 2^-down, of 24 bits.
struct ScaledExp {
  int32_t mantissa, down;
};

// exp((logit - max_logit) / temperature) to about 2^-22 of itself; what is below half a step may
// come out as any such value. logit <= max_logit, which is finite; temperature > 0.
constexpr ScaledExp ExpOf(float logit, float max_logit, float temperature) {
  // The lower end is cut off by its bits, without a comparison of floats, so that loops vectorise.
  const float quotient = (logit - max_logit) / temperature;
  constexpr int32_t kLowest = std::bit_cast<int32_t>(29.0f);
  const int32_t size = std::bit_cast<int32_t>(quotient) & 0x7fffffff;
  const float x = -std::bit_cast<float>(size < kLowest ? size : kLowest);
  // x = n ln 2 + r with |r| <= ln 2 / 2: adding 1.5 * 2^23 rounds to an integer, and 355 / 512 has
  // so few bits that its product with n is exact.
  const float n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float e = r * (1.0f / 5040.0f) + 1.0f / 720.0f;
  e = e * r + 1.0f / 120.0f;
  e = e * r + 1.0f / 24.0f;
  e = e * r + 1.0f / 6.0f;
  e = e * r + 0.5f;
  e = e * r + 1.0f;
  e = e * r + 1.0f;
  return {static_cast<int32_t>(e * 16777216.0f), -static_cast<int32_t>(n)};
}

// To the nearest step.
constexpr uint64_t StepsOf(ScaledExp e) {
  return ((static_cast<uint64_t>(e.mantissa) << (kWeightBits - 23)) + (uint64_t{1} << e.down)) >>
         (e.down + 1);
}

// exp((logit - max_logit) / temperature) in steps.
constexpr uint64_t WeightOf(float logit, float max_logit, float temperature) {
  return StepsOf(ExpOf(logit, max_logit, temperature));
}

// `value` of [0, 1), exact, as a fraction of 2^64.
constexpr uint64_t FractionOf(double value) { return static_cast<uint64_t>(value * 0x1p64); }

// fraction / 2^64 * total, rounded down: below total.
constexpr uint64_t PartBelow(uint64_t fraction, uint64_t total) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(fraction) * total) >> 64);
}

// The same rounded up, at least 1: what a sum of weights must reach for top-p.
constexpr uint64_t PartAtLeast(uint64_t fraction, uint64_t total) {
  const uint64_t up = PartBelow(fraction, total) + (fraction * total != 0 ? 1 : 0);
  return up > 0 ? up : 1;
}

constexpr float ToFinite(float x) {
  constexpr float kLargest = 3.402823466e+38f;
  if (x > kLargest) return kLargest;
  return x < -kLargest ? -kLargest : x;
}

// A finite logit after finite penalties.
constexpr float Penalized(float logit, int32_t answer_count, float repetition, float presence,
                          float frequency) {
  const float out = ToFinite(logit > 0.0f ? logit / repetition : logit * repetition);
  if (answer_count <= 0) return out;
  return ToFinite(out - (presence + frequency * static_cast<float>(answer_count)));
}

// What min-p asks of a weight.
constexpr uint64_t LeastWeight(float min_p) {
  const double steps = static_cast<double>(min_p) * static_cast<double>(kOneWeight);
  const uint64_t down = static_cast<uint64_t>(steps);
  return down + (static_cast<double>(down) < steps ? 1 : 0);
}

// The logarithm of the sum of exp(logit), from the highest logit and the sum of the weights.
inline double LogSum(float max_logit, uint64_t total) {
  return max_logit + std::log(static_cast<double>(total) / static_cast<double>(kOneWeight));
}

inline bool AllWithin(absl::Span<const int32_t> ids, int64_t vocab) {
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocab) return false;
  }
  return true;
}

// Aborts on arguments that no caller may give.
inline void CheckSampleRows(const SampleRowsArgs& args, absl::Span<const SampledRow> out) {
  const int64_t vocab = args.logits.cols;
  CCOE_CHECK(args.logits.dtype == DType::kF32 && vocab <= kMaxSampledVocab);
  CCOE_CHECK(static_cast<int64_t>(args.rows.size()) == args.logits.rows);
  CCOE_CHECK(args.rows.size() == out.size() && (vocab > 0 || out.empty()));
  for (const SampleRow& row : args.rows) {
    CCOE_CHECK(row.temperature >= 0.0f && row.top_k >= 0 && row.top_p > 0.0f);
    CCOE_CHECK(row.min_p >= 0.0f && row.min_p < 1.0f && row.repetition_penalty > 0.0f);
    CCOE_CHECK(!IsNonFinite(row.temperature) && !IsNonFinite(row.repetition_penalty));
    CCOE_CHECK(!IsNonFinite(row.presence_penalty) && !IsNonFinite(row.frequency_penalty));
    CCOE_CHECK(row.uniform >= 0.0 && row.uniform < 1.0);
    for (const TokenCount& count : row.counts) CCOE_CHECK(count.id >= 0 && count.id < vocab);
    CCOE_CHECK(AllWithin(row.held_back, vocab));
  }
}

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_SAMPLE_MATH_H_
