// Rotary position embedding: the frequencies of a model.
#ifndef CCOE_RUNTIME_MODEL_ROPE_H_
#define CCOE_RUNTIME_MODEL_ROPE_H_

#include <cstdint>
#include <vector>

#include "runtime/model/model_spec.h"

namespace ccoe::model {

// The part of a head that is rotated, the same in all layers.
int64_t RotaryDim(const ModelSpec& spec);

// The rotary_dim / 2 angular frequencies, radians a position: theta^(-2i / rotary_dim) (Su et al.,
// arXiv 2104.09864), rescaled as spec.scaling says. Rounded to f32 where the reference
// implementation rounds, since positions multiply the error.
std::vector<float> RopeFrequencies(const RopeSpec& spec, int64_t rotary_dim);

// What cosines and sines are multiplied with: spec.attention_factor with kYarn, else 1.
float RopeMagnitude(const RopeSpec& spec);

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_ROPE_H_
