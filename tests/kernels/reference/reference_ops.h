// SPDX-License-Identifier: Apache-2.0
// The ops written slowly and plainly, in double. What the fast kernels are compared with.
#ifndef CCOE_TESTS_KERNELS_REFERENCE_REFERENCE_OPS_H_
#define CCOE_TESTS_KERNELS_REFERENCE_REFERENCE_OPS_H_

#include <cstdint>
#include <vector>

#include "kernels/attention.h"
#include "kernels/ops.h"

namespace ccoe::kernels::reference {

// A host matrix of values; row-major, contiguous.
struct Dense {
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<double> values;

  Dense() = default;
  Dense(int64_t r, int64_t c) : rows(r), cols(c), values(r * c) {}
  double& at(int64_t r, int64_t c) { return values[r * cols + c]; }
  double at(int64_t r, int64_t c) const { return values[r * cols + c]; }
};

// x * weight^T + bias; bias may have no rows.
Dense Linear(const Dense& x, const Dense& weight, const Dense& bias);

// sum over k of |x| |weight|: what rounding errors of a dot product are measured by.
Dense LinearMagnitude(const Dense& x, const Dense& weight);

Dense RmsNorm(const Dense& x, const Dense& weight, double eps);

// The cosines that RopeAngles makes, or the sines.
Dense RopeAngles(const RopeAnglesArgs& args, bool sines);

// Rotates each head of x; cos and sin as in RopeAndAppendKvArgs.
Dense Rope(const Dense& x, int64_t head_dim, const Dense& cos, const Dense& sin, RopeStyle style);

struct AttentionShape {
  int64_t heads = 1;
  int64_t kv_heads = 1;
  int64_t head_dim = 1;
  double scale = 1;
  int64_t sliding_window = 0;
  double soft_cap = 0;
};

// Causal attention of one sequence: q [n, heads * head_dim], k and v [n, kv_heads * head_dim], row
// i at position i.
Dense Attention(const AttentionShape& shape, const Dense& q, const Dense& k, const Dense& v);

double Activate(Activation activation, double x);

// A chosen expert of TopKGate.
struct Choice {
  int32_t expert = 0;
  double weight = 0;
  bool operator==(const Choice&) const = default;
};

// One row of TopKGate: the best k of `logits` by `form`, in rising order. `bias` and `steering`
// have a value for each expert or none.
std::vector<Choice> Gate(const GateForm& form, const std::vector<double>& logits,
                         const std::vector<double>& bias, const std::vector<double>& steering,
                         int64_t k);

// down(activation(gate(x)) * up(x)) for each row of x.
Dense GatedFfn(Activation activation, const Dense& x, const Dense& gate, const Dense& up,
               const Dense& down);

// The probability with which SampleRows gives each id of a row, from its logits; row.uniform is not
// looked at. Not every id is held back.
std::vector<double> SampleProbabilities(const SampleRow& row, const std::vector<double>& logits);

// Logarithms of the softmax.
std::vector<double> LogSoftmax(const std::vector<double>& logits);

}  // namespace ccoe::kernels::reference

#endif  // CCOE_TESTS_KERNELS_REFERENCE_REFERENCE_OPS_H_
