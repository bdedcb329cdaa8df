#include "runtime/model/ffn.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"

namespace ccoe::model {

absl::StatusOr<FfnWeights> BindFfn(const FfnSpec& spec, int64_t hidden_size,
                                   absl::string_view prefix, const Weights& weights) {
  const std::string mlp = absl::StrCat(prefix, ".mlp");
  const int64_t width = spec.intermediate;
  FfnWeights bound;
  CCOE_ASSIGN_OR_RETURN(
      bound.norm,
      weights.Vector(absl::StrCat(prefix, ".post_attention_layernorm.weight"), hidden_size));
  CCOE_ASSIGN_OR_RETURN(bound.gate,
                        weights.Matrix(absl::StrCat(mlp, ".gate_proj.weight"), width, hidden_size));
  CCOE_ASSIGN_OR_RETURN(bound.up,
                        weights.Matrix(absl::StrCat(mlp, ".up_proj.weight"), width, hidden_size));
  CCOE_ASSIGN_OR_RETURN(bound.down,
                        weights.Matrix(absl::StrCat(mlp, ".down_proj.weight"), hidden_size, width));
  if (spec.bias) {
    CCOE_ASSIGN_OR_RETURN(bound.gate_bias,
                          weights.Vector(absl::StrCat(mlp, ".gate_proj.bias"), width));
    CCOE_ASSIGN_OR_RETURN(bound.up_bias, weights.Vector(absl::StrCat(mlp, ".up_proj.bias"), width));
    CCOE_ASSIGN_OR_RETURN(bound.down_bias,
                          weights.Vector(absl::StrCat(mlp, ".down_proj.bias"), hidden_size));
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
  const kernels::LinearPart output[] = {
      {weights.down, weights.down_bias, hidden, /*accumulate=*/true}};
  ops.Linear(scratch.gate, output);
}

}  // namespace ccoe::model
