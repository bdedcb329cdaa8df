// SPDX-License-Identifier: Apache-2.0
// The largest calls that an Ops will get, known before it is made: from these an implementation
// knows how much memory of its own it needs, and takes it at once.
#ifndef CCOE_KERNELS_OP_SHAPES_H_
#define CCOE_KERNELS_OP_SHAPES_H_

#include <cstdint>
#include <vector>

namespace ccoe::kernels {

// All at most; smaller calls occur too. Zeros: no such calls.
struct OpShapes {
  // Of Linear: x [rows, in], all parts of the call [out, in] together.
  struct Product {
    int64_t rows = 0, in = 0, out = 0;
  };
  std::vector<Product> products;

  // Of HeadLinear over x of each head's own: [rows, in], a head's weight [out, in]. Where heads
  // share x it is one of `products`, all heads together.
  struct HeadProduct {
    int64_t rows = 0, heads = 0, in = 0, out = 0;
  };
  std::vector<HeadProduct> head_products;

  // Of PagedAttention: rows of all sequences of a call, and tokens of one.
  struct Attention {
    int64_t rows = 0, sequences = 0, tokens = 0, page_tokens = 1;
    int64_t heads = 0, kv_heads = 0, head_dim = 0;
  };
  std::vector<Attention> attentions;

  // Of GroupedFfn and MoeFfn.
  struct Experts {
    int64_t rows = 0, pairs = 0, experts = 0, hidden = 0, intermediate = 0;
  };
  std::vector<Experts> experts;

  // Of SampleRows.
  int64_t sampled_rows = 0, vocabulary = 0;

  int64_t captured_steps = 0;  // different keys of RunCaptured that are worth a graph
};

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_OP_SHAPES_H_
