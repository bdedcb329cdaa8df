#include "runtime/model/residual.h"

namespace ccoe::model {

void AddBlockOutput(const BlockOutput& output, kernels::ConstMatrix x, kernels::Matrix scratch,
                    kernels::Ops& ops, kernels::Matrix hidden) {
  const bool normed = !output.post_norm.empty();
  const kernels::LinearPart part[] = {
      {output.weight, output.bias, normed ? scratch : hidden, /*accumulate=*/!normed}};
  ops.Linear(x, part);
  if (!normed) return;
  ops.AddRmsNorm(scratch, output.post_norm, output.norm_eps, hidden);
}

}  // namespace ccoe::model
