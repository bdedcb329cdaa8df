// The end of a decoder layer's block: what it computed is added to the residual stream.
#ifndef CCOE_RUNTIME_MODEL_RESIDUAL_H_
#define CCOE_RUNTIME_MODEL_RESIDUAL_H_

#include "kernels/ops.h"

namespace ccoe::model {

// The block's last matrix product, [hidden, in], with a bias or none; `post_norm` [1, hidden] is
// empty where the family has none.
struct BlockOutput {
  kernels::ConstMatrix weight, bias, post_norm;
  float norm_eps = 1e-5f;
};

// hidden += post_norm?(x * weight^T + bias). `scratch` is f32 of hidden's shape, used with a
// post_norm only.
void AddBlockOutput(const BlockOutput& output, kernels::ConstMatrix x, kernels::Matrix scratch,
                    kernels::Ops& ops, kernels::Matrix hidden);

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_RESIDUAL_H_
