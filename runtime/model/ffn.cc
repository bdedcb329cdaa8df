#include "runtime/model/ffn.h"

#include "runtime/base/status_macros.h"
#include "runtime/model/layer_tensors.h"
#include "runtime/model/residual.h"

namespace ccoe::model {

absl::StatusOr<FfnWeights> BindFfn(const ModelSpec& spec, int32_t layer, const Weights& weights) {
  const LayerSpec& layer_spec = spec.layers[static_cast<size_t>(layer)];
  const TensorNames& names = spec.names;
  const LayerTensors tensors(spec, layer, weights);
  const int64_t hidden = spec.hidden_size;
  const int64_t width = layer_spec.ffn.intermediate;
  FfnWeights bound;
  CCOE_ASSIGN_OR_RETURN(bound.norm, tensors.Norm(names.ffn_norm, hidden));
  CCOE_ASSIGN_OR_RETURN(bound.gate, tensors.Matrix(names.gate, width, hidden));
  CCOE_ASSIGN_OR_RETURN(bound.up, tensors.Matrix(names.up, width, hidden));
  CCOE_ASSIGN_OR_RETURN(bound.down, tensors.Matrix(names.down, hidden, width));
  if (layer_spec.post_norms) {
    CCOE_ASSIGN_OR_RETURN(bound.post_norm, tensors.Norm(names.ffn_post_norm, hidden));
  }
  if (layer_spec.ffn.bias) {
    CCOE_ASSIGN_OR_RETURN(bound.gate_bias, tensors.Bias(names.gate, width));
    CCOE_ASSIGN_OR_RETURN(bound.up_bias, tensors.Bias(names.up, width));
    CCOE_ASSIGN_OR_RETURN(bound.down_bias, tensors.Bias(names.down, hidden));
  }
  return bound;
}

void RunFfn(const FfnSpec& spec, const FfnWeights& weights, float norm_eps,
            const FfnScratch& scratch, kernels::Ops& ops, kernels::Matrix hidden) {
  ops.RmsNorm(hidden, weights.norm, norm_eps, scratch.normed);
  const kernels::LinearPart projections[] = {
      {weights.gate, weights.gate_bias, scratch.gate, /*accumulate=*/false},
      {weights.up, weights.up_bias, scratch.up, /*accumulate=*/false},
  };
  ops.Linear(scratch.normed, projections);
  ops.GatedActivation(spec.activation, scratch.gate, scratch.up, scratch.gate);
  AddBlockOutput({weights.down, weights.down_bias, weights.post_norm, norm_eps}, scratch.gate,
                 scratch.normed, ops, hidden);
}

}  // namespace ccoe::model
