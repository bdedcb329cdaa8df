#include "runtime/model/rope.h"

#include <cmath>

namespace ccoe::model {
namespace {

// Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between blended.
float Llama3Scaled(const RopeSpec& spec, float frequency) {
  const double original = static_cast<double>(spec.original_max_positions);
  const double wavelength = 2.0 * M_PI / frequency;
  if (wavelength < original / spec.high_freq_factor) return frequency;
  if (wavelength > original / spec.low_freq_factor) {
    return static_cast<float>(frequency / spec.factor);
  }
  const double smooth = (original / wavelength - spec.low_freq_factor) /
                        (spec.high_freq_factor - spec.low_freq_factor);
  return static_cast<float>((1.0 - smooth) * frequency / spec.factor + smooth * frequency);
}

}  // namespace

std::vector<float> RopeFrequencies(const RopeSpec& spec, int64_t rotary_dim) {
  std::vector<float> frequencies;
  for (int64_t i = 0; i < rotary_dim; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(rotary_dim);
    const float power = static_cast<float>(std::pow(spec.theta, static_cast<double>(exponent)));
    float frequency = 1.0f / power;
    if (spec.scaling == RopeScaling::kLinear) {
      frequency = static_cast<float>(frequency / spec.factor);
    } else if (spec.scaling == RopeScaling::kLlama3) {
      frequency = Llama3Scaled(spec, frequency);
    }
    frequencies.push_back(frequency);
  }
  return frequencies;
}

void RopeRows(absl::Span<const float> frequencies, absl::Span<const int64_t> positions, float* cos,
              float* sin) {
  for (const int64_t position : positions) {
    for (const float frequency : frequencies) {
      const float angle = static_cast<float>(position) * frequency;
      *cos++ = static_cast<float>(std::cos(static_cast<double>(angle)));
      *sin++ = static_cast<float>(std::sin(static_cast<double>(angle)));
    }
  }
}

}  // namespace ccoe::model
