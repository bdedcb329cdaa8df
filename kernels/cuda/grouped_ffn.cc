#include "kernels/cuda/grouped_ffn.h"

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/rows.h"
#include "runtime/base/check.h"

namespace ccoe::kernels {
namespace {

bool SameShape(const ConstMatrix& m, int64_t rows, int64_t cols) {
  return IsFloat(m.dtype) && m.rows == rows && m.cols == cols;
}

void CheckShapes(const GroupedFfnArgs& args) {
  const int64_t pairs = static_cast<int64_t>(args.x_rows.size());
  CCOE_CHECK(args.x.dtype == DType::kF32 && args.out.dtype == DType::kF32);
  CCOE_CHECK(args.out.cols == args.x.cols && args.x.cols > 0);
  CCOE_CHECK(args.out_rows.size() == args.x_rows.size());
  CCOE_CHECK(args.weights.size() == args.x_rows.size());
  for (const ExpertGroup& group : args.groups) {
    const int64_t intermediate = args.groups[0].gate.rows;
    CCOE_CHECK(SameShape(group.gate, intermediate, args.x.cols));
    CCOE_CHECK(SameShape(group.up, intermediate, args.x.cols));
    CCOE_CHECK(SameShape(group.down, args.x.cols, intermediate) && intermediate > 0);
    CCOE_CHECK(group.pair_count >= 0 && group.pair_begin >= 0 &&
               group.pair_begin + group.pair_count <= pairs);
  }
  for (int64_t p = 0; p < pairs; ++p) {
    CCOE_CHECK(args.x_rows[p] >= 0 && args.x_rows[p] < args.x.rows);
    CCOE_CHECK(args.out_rows[p] >= 0 && args.out_rows[p] < args.out.rows);
  }
}

void SetWeight(const ConstMatrix& weight, MatmulPart* part) {
  part->weight = weight.data;
  part->stride = weight.stride;
  part->dtype = weight.dtype;
  part->cols = weight.rows;
}

class GroupedCall {
 public:
  GroupedCall(Stream* stream, const MatmulOptions& options, const GroupedFfnArgs& args)
      : stream_(stream),
        options_(options),
        args_(args),
        pairs_(static_cast<int64_t>(args.x_rows.size())),
        hidden_(args.x.cols),
        intermediate_(args.groups[0].gate.rows) {
    int64_t most = 0;
    for (const ExpertGroup& group : args.groups) {
      most = std::max(most, group.pair_count);
      fast_inner_ = fast_inner_ && HasFastWeights(group.gate) && HasFastWeights(group.up);
      fast_down_ = fast_down_ && HasFastWeights(group.down);
    }
    f32_ = options.math == DType::kF32;
    skinny_ = !f32_ && most <= kSkinnyRows;
    if (f32_) {
      tile_rows_ = most <= 2 * kF32SmallRows ? kF32SmallRows : kF32LargeRows;
    } else {
      tile_rows_ = !skinny_ ? TileRowsFor(most) : most <= 8 ? 8 : 16;
    }
    for (const ExpertGroup& group : args.groups) tiles_ += CeilDiv(group.pair_count, tile_rows_);
  }

  void Run() {
    // Rows of `inner` start 16-byte aligned for the kernel that reads them.
    inner_stride_ = RoundUp(intermediate_, kFeatureStep);
    const int64_t inner_bytes = RoundUp(pairs_ * inner_stride_ * (Rounds() ? 2 : 4), 256);
    const int64_t x_bytes =
        Rounds() ? RoundUp(args_.x.rows * RoundUp(hidden_, kFeatureStep) * 2, 256) : 0;
    char* workspace = stream_->Workspace(x_bytes + (f32_ ? 2 : 1) * inner_bytes);
    if (workspace == nullptr) return;
    inner_ = workspace + x_bytes;
    up_ = inner_ + inner_bytes;  // f32 alone
    if (!PlaceArrays()) return;
    if (f32_) {
      RunF32();
    } else {
      RunGated(workspace);
    }
    RunDown();
  }

 private:
  // The tile kernel takes bf16, the others f32 (and round it themselves).
  bool Rounds() const { return !f32_ && !skinny_; }

  bool PlaceArrays() {
    const int64_t groups = static_cast<int64_t>(args_.groups.size());
    HostArrays arrays(stream_);
    for (int i = 0; i < 3; ++i) arrays.Room<int32_t>(pairs_);
    for (int i = 0; i < 3; ++i) arrays.Room<MatmulPart>(groups);
    arrays.Room<MatmulTile>(tiles_);
    arrays.Room<int32_t>(1);
    if (!arrays.Make()) return false;
    x_rows_ = arrays.Put(args_.x_rows);
    out_rows_ = arrays.Put(args_.out_rows);
    weights_ = arrays.Put(args_.weights);
    MatmulPart* gated = arrays.Place<MatmulPart>(groups, &gated_parts_);
    MatmulPart* up = arrays.Place<MatmulPart>(groups, &up_parts_);
    MatmulPart* down = arrays.Place<MatmulPart>(groups, &down_parts_);
    for (int64_t g = 0; g < groups; ++g) FillParts(args_.groups[g], &gated[g], &up[g], &down[g]);
    FillTiles(arrays.Place<MatmulTile>(tiles_, &tile_list_));
    *arrays.Place<int32_t>(1, &tile_count_) = static_cast<int32_t>(tiles_);
    arrays.Send();
    return true;
  }

  void FillParts(const ExpertGroup& group, MatmulPart* gated, MatmulPart* up,
                 MatmulPart* down) const {
    for (MatmulPart* part : {gated, up, down}) ClearParams(part);
    SetWeight(group.gate, gated);
    gated->up = group.up.data;
    gated->up_stride = group.up.stride;
    gated->up_dtype = group.up.dtype;
    gated->out = reinterpret_cast<float*>(inner_);  // in f32, where gate and up are apart
    gated->out_stride = inner_stride_;
    SetWeight(group.up, up);
    up->out = reinterpret_cast<float*>(up_);
    up->out_stride = inner_stride_;
    SetWeight(group.down, down);
  }

  void FillTiles(MatmulTile* tile) const {
    for (size_t g = 0; g < args_.groups.size(); ++g) {
      const ExpertGroup& group = args_.groups[g];
      for (int64_t at = 0; at < group.pair_count; at += tile_rows_, ++tile) {
        tile->group = static_cast<int32_t>(g);
        tile->row_begin = static_cast<int32_t>(group.pair_begin + at);
        tile->row_count =
            static_cast<int32_t>(std::min<int64_t>(tile_rows_, group.pair_count - at));
      }
    }
  }

  MatmulParams ParamsOver(const MatmulPart* groups, int64_t k) const {
    MatmulParams params;
    ClearParams(&params);
    params.rows = pairs_;
    params.k = k;
    params.groups = groups;
    params.tiles = tile_list_;
    params.tile_count = tile_count_;
    params.activation = args_.activation;
    params.inner = inner_;
    params.inner_stride = inner_stride_;
    return params;
  }

  MatmulLaunch LaunchOf(MatmulKind kind, bool fast, int64_t cols) const {
    MatmulLaunch launch;
    launch.kind = kind;
    launch.fast = fast;
    launch.cols = cols;
    launch.tiles = tiles_;
    return launch;
  }

  void RunF32() {
    for (const MatmulPart* parts : {gated_parts_, up_parts_}) {
      MatmulParams params = ParamsOver(parts, hidden_);
      params.x = args_.x.data;
      params.x_stride = args_.x.stride;
      params.x_rows = x_rows_;
      CudaMatmulF32(stream_, LaunchOf(MatmulKind::kPlain, false, intermediate_), tile_rows_,
                    &params);
    }
    RowOpParams gate;
    ClearParams(&gate);
    gate.op = RowOp::kGate;
    gate.activation = args_.activation;
    SetView({inner_, DType::kF32, pairs_, intermediate_, inner_stride_}, &gate.a);
    SetView({up_, DType::kF32, pairs_, intermediate_, inner_stride_}, &gate.b);
    gate.out = gate.a;
    CudaRowOp(stream_, gate);
  }

  void RunGated(char* rounded) {
    MatmulParams params = ParamsOver(gated_parts_, hidden_);
    params.x_rows = x_rows_;
    if (skinny_) {
      params.x = args_.x.data;
      params.x_stride = args_.x.stride;
      const bool fast = fast_inner_ && HasFastRows(args_.x);
      return CudaMatmulSkinny(stream_, LaunchOf(MatmulKind::kGated, fast, intermediate_),
                              tile_rows_, &params);
    }
    RoundRowsParams round;
    ClearParams(&round);
    SetView(args_.x, &round.x);
    round.out = rounded;
    round.padded = RoundUp(hidden_, kFeatureStep);
    CudaRoundRows(stream_, round);
    params.x = rounded;
    params.x_stride = round.padded;
    // The second product reads whole steps: what lies beyond the intermediate columns must be zero.
    if (inner_stride_ != intermediate_) {
      const int64_t identity[] = {reinterpret_cast<int64_t>(inner_), pairs_ * inner_stride_ * 2};
      if (stream_->Enqueues(identity, sizeof(identity))) {
        stream_->Fail(
            CudaStatus(cudaMemsetAsync(inner_, 0, pairs_ * inner_stride_ * 2, stream_->get()),
                       "cuda: clearing the grouped feed-forward's rows"));
      }
    }
    CudaMatmulTile(stream_, LaunchOf(MatmulKind::kGated, fast_inner_, intermediate_), tile_rows_,
                   /*split=*/false, &params);
  }

  void RunDown() {
    MatmulParams params = ParamsOver(down_parts_, intermediate_);
    params.x = inner_;
    params.x_stride = inner_stride_;
    params.out = static_cast<float*>(args_.out.data);
    params.out_stride = args_.out.stride;
    params.out_rows = out_rows_;
    params.weights = weights_;
    const MatmulLaunch launch = LaunchOf(MatmulKind::kDown, fast_down_, hidden_);
    if (f32_) return CudaMatmulF32(stream_, launch, tile_rows_, &params);
    if (skinny_) return CudaMatmulSkinny(stream_, launch, tile_rows_, &params);
    CudaMatmulTile(stream_, launch, tile_rows_, /*split=*/false, &params);
  }

  Stream* const stream_;
  const MatmulOptions& options_;
  const GroupedFfnArgs& args_;
  const int64_t pairs_, hidden_, intermediate_;
  bool f32_ = false, skinny_ = false;
  bool fast_inner_ = true, fast_down_ = true;
  int tile_rows_ = 0;
  int64_t tiles_ = 0;
  int64_t inner_stride_ = 0;
  char *inner_ = nullptr, *up_ = nullptr;
  // On the device.
  const int32_t *x_rows_ = nullptr, *out_rows_ = nullptr, *tile_count_ = nullptr;
  const float* weights_ = nullptr;
  const MatmulPart *gated_parts_ = nullptr, *up_parts_ = nullptr, *down_parts_ = nullptr;
  const MatmulTile* tile_list_ = nullptr;
};

}  // namespace

void CudaGroupedFfn(Stream* stream, const MatmulOptions& options, const GroupedFfnArgs& args) {
  CheckShapes(args);
  if (args.groups.empty() || args.x_rows.empty()) return;
  GroupedCall(stream, options, args).Run();
}

}  // namespace ccoe::kernels
