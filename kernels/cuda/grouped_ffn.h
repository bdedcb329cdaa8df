// SPDX-License-Identifier: Apache-2.0
// Grouped feed-forwards on a GPU: two grouped products (matmul.h), the activation fused into the
// first. Ops::GroupedFfn, whose groups the host knows, and what Ops::MoeFfn shares with it.
#ifndef CCOE_KERNELS_CUDA_GROUPED_FFN_H_
#define CCOE_KERNELS_CUDA_GROUPED_FFN_H_

#include <cstdint>

#include "kernels/cuda/linear.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/stream.h"
#include "kernels/moe.h"

namespace ccoe::kernels {

// Which kernels compute the products, and the rows of a tile: speed alone depends on it. The bits
// of a pair are the same for any choice, and a group may have any number of rows.
struct GroupedKernels {
  bool f32 = false, skinny = false;
  int tile_rows = 0;
};

// For groups of up to `rows` rows, or mostly so.
GroupedKernels ChooseGroupedKernels(const MatmulOptions& options, int64_t rows);

// An expert's matrices as the kernels take them: for gate and up in one product, for `up` alone
// (f32) and for down. Products go where MatmulParams says.
void SetExpertParts(const ExpertMatrices& expert, MatmulPart* gated, MatmulPart* up,
                    MatmulPart* down);

// Whether all experts seen so far can be read the fast way.
struct FastExperts {
  bool inner = true, down = true;
  void See(const ExpertMatrices& expert);
};

// The products of pairs that are sorted by group, with all arrays in device memory. out is written
// at out_rows; between the products, [pairs, intermediate] lies in the workspace.
struct GroupedProducts {
  GroupedKernels kernels;
  ConstMatrix x;      // [.., hidden] f32
  int64_t pairs = 0;  // at most
  int64_t intermediate = 0;
  Activation activation = Activation::kSilu;
  FastExperts fast;
  const MatmulPart *gated = nullptr, *up = nullptr, *down = nullptr;  // by group
  const int32_t *x_rows = nullptr, *out_rows = nullptr;               // [pairs]
  const float* weights = nullptr;                                     // [pairs]
  const MatmulTile* tiles = nullptr;
  const int32_t* tile_count = nullptr;
  int64_t max_tiles = 0;  // *tile_count is at most this
  Matrix out;             // [.., hidden] f32

  // A multiple of 256.
  int64_t WorkspaceBytes() const;
  // `workspace` of so many bytes, 256-byte aligned.
  void Run(Stream* stream, char* workspace) const;
};

// See Ops::GroupedFfn. args.inputs, gate and up are left alone.
void CudaGroupedFfn(Stream* stream, const MatmulOptions& options, const GroupedFfnArgs& args);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_GROUPED_FFN_H_
