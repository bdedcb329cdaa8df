#include "runtime/model/rope.h"

#include <algorithm>
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

// YaRN blends by the place i of a frequency among rotary_dim / 2: `rotations` turns over the
// original context are made by frequency number RotationPlace(rotations).
double RotationPlace(const RopeSpec& spec, int64_t rotary_dim, double rotations) {
  const double context = static_cast<double>(spec.original_max_positions);
  return static_cast<double>(rotary_dim) * std::log(context / (rotations * 2.0 * M_PI)) /
         (2.0 * std::log(spec.theta));
}

// Places between which YaRN blends: below `low` frequencies are kept, above `high` divided.
struct YarnRange {
  double low = 0.0, high = 0.0;
};

YarnRange BlendedPlaces(const RopeSpec& spec, int64_t rotary_dim) {
  const double highest = static_cast<double>(rotary_dim - 1);
  YarnRange range;
  range.low = std::max(std::floor(RotationPlace(spec, rotary_dim, spec.beta_fast)), 0.0);
  range.high = std::min(std::ceil(RotationPlace(spec, rotary_dim, spec.beta_slow)), highest);
  if (range.low == range.high) range.high += 0.001;  // as the reference: a step, not a ramp
  return range;
}

float YarnScaled(const RopeSpec& spec, YarnRange range, int64_t place, float power) {
  const float kept = 1.0f / power;
  const float stretched = 1.0f / (static_cast<float>(spec.factor) * power);
  const float ramp = (static_cast<float>(place) - static_cast<float>(range.low)) /
                     static_cast<float>(range.high - range.low);
  const float share_kept = 1.0f - std::clamp(ramp, 0.0f, 1.0f);
  return stretched * (1.0f - share_kept) + kept * share_kept;
}

}  // namespace

int64_t RotaryDim(const ModelSpec& spec) {
  const AttentionSpec& attention = spec.layers[0].attention;
  return attention.is_latent() ? attention.latent.rope_dim : attention.head_dim;
}

std::vector<float> RopeFrequencies(const RopeSpec& spec, int64_t rotary_dim) {
  const bool yarn = spec.scaling == RopeScaling::kYarn;
  const YarnRange range = yarn ? BlendedPlaces(spec, rotary_dim) : YarnRange{};
  std::vector<float> frequencies;
  for (int64_t i = 0; i < rotary_dim; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(rotary_dim);
    const float power = static_cast<float>(std::pow(spec.theta, static_cast<double>(exponent)));
    float frequency = 1.0f / power;
    if (spec.scaling == RopeScaling::kLinear) {
      frequency = static_cast<float>(frequency / spec.factor);
    } else if (spec.scaling == RopeScaling::kLlama3) {
      frequency = Llama3Scaled(spec, frequency);
    } else if (yarn) {
      frequency = YarnScaled(spec, range, i / 2, power);
    }
    frequencies.push_back(frequency);
  }
  return frequencies;
}

float RopeMagnitude(const RopeSpec& spec) {
  return spec.scaling == RopeScaling::kYarn ? static_cast<float>(spec.attention_factor) : 1.0f;
}

}  // namespace ccoe::model
