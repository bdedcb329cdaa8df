// The feed-forward block of a decoder layer: hidden += down(activation(gate(norm(hidden))) *
// up(norm(hidden))).
#ifndef CCOE_RUNTIME_MODEL_FFN_H_
#define CCOE_RUNTIME_MODEL_FFN_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/ops.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"

namespace ccoe::model {

// Views into a Weights. Biases are empty where the spec has none.
struct FfnWeights {
  kernels::ConstMatrix norm;      // [1, hidden]
  kernels::ConstMatrix gate, up;  // [intermediate, hidden]
  kernels::ConstMatrix down;      // [hidden, intermediate]
  kernels::ConstMatrix gate_bias, up_bias, down_bias;
};

// The tensors PREFIX.post_attention_layernorm.weight and PREFIX.mlp.*, checked. Errors name the
// tensor.
absl::StatusOr<FfnWeights> BindFfn(const FfnSpec& spec, int64_t hidden_size,
                                   absl::string_view prefix, const Weights& weights);

// Scratch, f32: normed [rows, hidden]; gate and up [rows, intermediate].
struct FfnScratch {
  kernels::Matrix normed, gate, up;
};

// `hidden` [rows, hidden_size] f32 in place.
void RunFfn(const FfnSpec& spec, const FfnWeights& weights, float norm_eps,
            const FfnScratch& scratch, kernels::Ops& ops, kernels::Matrix hidden);

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_FFN_H_
