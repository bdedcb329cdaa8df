// Rotary position embedding: frequencies of a model, and the cosines and sines of rows.
#ifndef CCOE_RUNTIME_MODEL_ROPE_H_
#define CCOE_RUNTIME_MODEL_ROPE_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "runtime/model/model_spec.h"

namespace ccoe::model {

// The part of a head that is rotated, the same in all layers.
int64_t RotaryDim(const ModelSpec& spec);

// The rotary_dim / 2 angular frequencies, radians a position: theta^(-2i / rotary_dim) (Su et al.,
// arXiv 2104.09864), rescaled as spec.scaling says. Rounded to f32 where the reference
// implementation rounds, since positions multiply the error.
std::vector<float> RopeFrequencies(const RopeSpec& spec, int64_t rotary_dim);

// cos and sin, both [positions.size(), frequencies.size()] f32 in host memory, of the angles
// position * frequency, times spec.attention_factor with kYarn. `frequencies` are
// RopeFrequencies(spec, ..). A row depends on its position alone.
void RopeRows(const RopeSpec& spec, absl::Span<const float> frequencies,
              absl::Span<const int64_t> positions, float* cos, float* sin);

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_ROPE_H_
