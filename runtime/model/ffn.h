// The dense feed-forward block of a decoder layer: hidden +=
// post_norm?(down(activation(gate(norm(hidden))) * up(norm(hidden)))).
#ifndef CCOE_RUNTIME_MODEL_FFN_H_
#define CCOE_RUNTIME_MODEL_FFN_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "kernels/ops.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"

namespace ccoe::model {

// Views into a Weights. Biases and the post norm are empty where the spec has none.
struct FfnWeights {
  kernels::ConstMatrix norm, post_norm;  // [1, hidden]
  kernels::ConstMatrix gate, up;         // [intermediate, hidden]
  kernels::ConstMatrix down;             // [hidden, intermediate]
  kernels::ConstMatrix gate_bias, up_bias, down_bias;
};

// The tensors of layer `layer`, checked. Errors name the tensor.
absl::StatusOr<FfnWeights> BindFfn(const ModelSpec& spec, int32_t layer, const Weights& weights);

// Scratch, f32: normed [rows, hidden]; gate and up [rows, intermediate].
struct FfnScratch {
  kernels::Matrix normed, gate, up;
};

// `hidden` [rows, hidden_size] f32 in place.
void RunFfn(const FfnSpec& spec, const FfnWeights& weights, float norm_eps,
            const FfnScratch& scratch, kernels::Ops& ops, kernels::Matrix hidden);

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_FFN_H_
