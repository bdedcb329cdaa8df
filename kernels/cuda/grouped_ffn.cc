// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/grouped_ffn.h"

#include <algorithm>
#include <cstdint>

#include "kernels/check_shapes.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/rows.h"
#include "runtime/base/check.h"

namespace ccoe::kernels {
namespace {

void SetWeight(const ConstMatrix& weight, MatmulPart* part) {
  part->weight = weight.data;
  part->stride = weight.stride;
  part->dtype = weight.dtype;
  part->cols = weight.rows;
}

// One Run of GroupedProducts.
class ProductsCall {
 public:
  ProductsCall(Stream* stream, const GroupedProducts& p, char* workspace)
      : stream_(stream), p_(p), hidden_(p.x.cols), stride_(InnerStride(p)) {
    const int64_t x_bytes = XBytes(p);
    rounded_ = workspace;
    inner_ = workspace + x_bytes;
    up_ = inner_ + InnerBytes(p);
  }

  static int64_t Bytes(const GroupedProducts& p) {
    return XBytes(p) + (p.kernels.f32 ? 2 : 1) * InnerBytes(p);
  }

  void Run() {
    if (p_.kernels.f32) {
      RunF32();
    } else {
      RunGated();
    }
    RunDown();
  }

 private:
  // The tile kernel takes bf16, the others f32 (and round it themselves).
  static bool Rounds(const GroupedProducts& p) { return !p.kernels.f32 && !p.kernels.skinny; }
  // Rows of `inner` start 16-byte aligned for the kernel that reads them.
  static int64_t InnerStride(const GroupedProducts& p) {
    return RoundUp(p.intermediate, kFeatureStep);
  }
  static int64_t InnerBytes(const GroupedProducts& p) {
    return RoundUp(p.pairs * InnerStride(p) * (Rounds(p) ? 2 : 4), 256);
  }
  static int64_t XBytes(const GroupedProducts& p) {
    return Rounds(p) ? RoundUp(p.x.rows * RoundUp(p.x.cols, kFeatureStep) * 2, 256) : 0;
  }

  MatmulParams ParamsOver(const MatmulPart* groups, int64_t k) const {
    MatmulParams params;
    ClearParams(&params);
    params.rows = p_.pairs;
    params.k = k;
    params.groups = groups;
    params.tiles = p_.tiles;
    params.tile_count = p_.tile_count;
    params.activation = p_.activation;
    params.inner = inner_;
    params.inner_stride = stride_;
    return params;
  }

  MatmulLaunch LaunchOf(MatmulKind kind, bool fast, int64_t cols) const {
    MatmulLaunch launch;
    launch.kind = kind;
    launch.fast = fast;
    launch.cols = cols;
    launch.tiles = p_.max_tiles;
    return launch;
  }

  void RunPlain(const MatmulPart* parts, char* to) {
    MatmulParams params = ParamsOver(parts, hidden_);
    params.x = p_.x.data;
    params.x_stride = p_.x.stride;
    params.x_rows = p_.x_rows;
    params.out = reinterpret_cast<float*>(to);
    params.out_stride = stride_;
    CudaMatmulF32(stream_, LaunchOf(MatmulKind::kPlain, false, p_.intermediate),
                  p_.kernels.tile_rows, &params);
  }

  void RunF32() {
    RunPlain(p_.gated, inner_);
    RunPlain(p_.up, up_);
    RowOpParams gate;
    ClearParams(&gate);
    gate.op = RowOp::kGate;
    gate.activation = p_.activation;
    SetView({inner_, DType::kF32, p_.pairs, p_.intermediate, stride_}, &gate.a);
    SetView({up_, DType::kF32, p_.pairs, p_.intermediate, stride_}, &gate.b);
    gate.out = gate.a;
    CudaRowOp(stream_, gate);
  }

  void RunGated() {
    MatmulParams params = ParamsOver(p_.gated, hidden_);
    params.x_rows = p_.x_rows;
    if (p_.kernels.skinny) {
      params.x = p_.x.data;
      params.x_stride = p_.x.stride;
      const bool fast = p_.fast.inner && HasFastRows(p_.x);
      return CudaMatmulSkinny(stream_, LaunchOf(MatmulKind::kGated, fast, p_.intermediate),
                              p_.kernels.tile_rows, &params);
    }
    RoundRowsParams round;
    ClearParams(&round);
    SetView(p_.x, &round.x);
    round.out = rounded_;
    round.padded = RoundUp(hidden_, kFeatureStep);
    CudaRoundRows(stream_, round);
    params.x = rounded_;
    params.x_stride = round.padded;
    ClearPadding();
    CudaMatmulTile(stream_, LaunchOf(MatmulKind::kGated, p_.fast.inner, p_.intermediate),
                   p_.kernels.tile_rows, /*split=*/false, &params);
  }

  // The second product reads whole steps: what lies beyond the intermediate columns must be zero.
  void ClearPadding() {
    if (stride_ == p_.intermediate) return;
    const int64_t identity[] = {reinterpret_cast<int64_t>(inner_), p_.pairs * stride_ * 2};
    if (!stream_->Enqueues(identity, sizeof(identity))) return;
    stream_->Fail(CudaStatus(cudaMemsetAsync(inner_, 0, p_.pairs * stride_ * 2, stream_->get()),
                             "cuda: clearing the grouped feed-forward's rows"));
  }

  void RunDown() {
    MatmulParams params = ParamsOver(p_.down, p_.intermediate);
    params.x = inner_;
    params.x_stride = stride_;
    params.out = static_cast<float*>(p_.out.data);
    params.out_stride = p_.out.stride;
    params.out_rows = p_.out_rows;
    params.weights = p_.weights;
    const MatmulLaunch launch = LaunchOf(MatmulKind::kDown, p_.fast.down, hidden_);
    const int tile_rows = p_.kernels.tile_rows;
    if (p_.kernels.f32) return CudaMatmulF32(stream_, launch, tile_rows, &params);
    if (p_.kernels.skinny) return CudaMatmulSkinny(stream_, launch, tile_rows, &params);
    CudaMatmulTile(stream_, launch, tile_rows, /*split=*/false, &params);
  }

  Stream* const stream_;
  const GroupedProducts& p_;
  const int64_t hidden_, stride_;
  char *rounded_ = nullptr, *inner_ = nullptr;
  char* up_ = nullptr;  // f32 alone
};

// GroupedFfn: what its host arrays say, on the device.
class GroupedCall {
 public:
  GroupedCall(Stream* stream, const MatmulOptions& options, const GroupedFfnArgs& args)
      : stream_(stream), args_(args), groups_(static_cast<int64_t>(args.groups.size())) {
    int64_t most = 0;
    for (const ExpertGroup& group : args.groups) {
      most = std::max(most, group.pair_count);
      products_.fast.See({group.gate, group.up, group.down});
    }
    products_.kernels = ChooseGroupedKernels(options, most);
    products_.x = args.x;
    products_.pairs = static_cast<int64_t>(args.x_rows.size());
    products_.intermediate = args.groups[0].gate.rows;
    products_.activation = args.activation;
    products_.out = args.out;
    for (const ExpertGroup& group : args.groups) {
      products_.max_tiles += CeilDiv(group.pair_count, products_.kernels.tile_rows);
    }
  }

  void Run() {
    char* workspace = stream_->Workspace(products_.WorkspaceBytes());
    if (workspace == nullptr || !PlaceArrays()) return;
    products_.Run(stream_, workspace);
  }

 private:
  bool PlaceArrays() {
    HostArrays arrays(stream_);
    for (int i = 0; i < 3; ++i) arrays.Room<int32_t>(products_.pairs);
    for (int i = 0; i < 3; ++i) arrays.Room<MatmulPart>(groups_);
    arrays.Room<MatmulTile>(products_.max_tiles);
    arrays.Room<int32_t>(1);
    if (!arrays.Make()) return false;
    products_.x_rows = arrays.Put(args_.x_rows);
    products_.out_rows = arrays.Put(args_.out_rows);
    products_.weights = arrays.Put(args_.weights);
    MatmulPart* gated = arrays.Place<MatmulPart>(groups_, &products_.gated);
    MatmulPart* up = arrays.Place<MatmulPart>(groups_, &products_.up);
    MatmulPart* down = arrays.Place<MatmulPart>(groups_, &products_.down);
    for (int64_t g = 0; g < groups_; ++g) {
      const ExpertGroup& group = args_.groups[g];
      SetExpertParts({group.gate, group.up, group.down}, &gated[g], &up[g], &down[g]);
    }
    FillTiles(arrays.Place<MatmulTile>(products_.max_tiles, &products_.tiles));
    *arrays.Place<int32_t>(1, &products_.tile_count) = static_cast<int32_t>(products_.max_tiles);
    arrays.Send();
    return true;
  }

  void FillTiles(MatmulTile* tile) const {
    const int tile_rows = products_.kernels.tile_rows;
    for (size_t g = 0; g < args_.groups.size(); ++g) {
      const ExpertGroup& group = args_.groups[g];
      for (int64_t at = 0; at < group.pair_count; at += tile_rows, ++tile) {
        tile->group = static_cast<int32_t>(g);
        tile->row_begin = static_cast<int32_t>(group.pair_begin + at);
        tile->row_count = static_cast<int32_t>(std::min<int64_t>(tile_rows, group.pair_count - at));
      }
    }
  }

  Stream* const stream_;
  const GroupedFfnArgs& args_;
  const int64_t groups_;
  GroupedProducts products_;
};

}  // namespace

GroupedKernels ChooseGroupedKernels(const MatmulOptions& options, int64_t rows) {
  GroupedKernels kernels;
  kernels.f32 = options.math == DType::kF32;
  kernels.skinny = !kernels.f32 && rows <= kSkinnyRows;
  if (kernels.f32) {
    kernels.tile_rows = rows <= 2 * kF32SmallRows ? kF32SmallRows : kF32LargeRows;
  } else {
    kernels.tile_rows = !kernels.skinny ? TileRowsFor(rows) : rows <= 8 ? 8 : 16;
  }
  return kernels;
}

void SetExpertParts(const ExpertMatrices& expert, MatmulPart* gated, MatmulPart* up,
                    MatmulPart* down) {
  for (MatmulPart* part : {gated, up, down}) ClearParams(part);
  SetWeight(expert.gate, gated);
  gated->up = expert.up.data;
  gated->up_stride = expert.up.stride;
  gated->up_dtype = expert.up.dtype;
  SetWeight(expert.up, up);
  SetWeight(expert.down, down);
}

void FastExperts::See(const ExpertMatrices& expert) {
  inner = inner && HasFastWeights(expert.gate) && HasFastWeights(expert.up);
  down = down && HasFastWeights(expert.down);
}

int64_t GroupedProducts::WorkspaceBytes() const { return ProductsCall::Bytes(*this); }

void GroupedProducts::Run(Stream* stream, char* workspace) const {
  ProductsCall(stream, *this, workspace).Run();
}

void CudaGroupedFfn(Stream* stream, const MatmulOptions& options, const GroupedFfnArgs& args) {
  CheckShapes(args);
  if (args.groups.empty() || args.x_rows.empty()) return;
  GroupedCall(stream, options, args).Run();
}

}  // namespace ccoe::kernels
