// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/linear.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/check_shapes.h"
#include "kernels/cuda/params.h"
#include "kernels/cuda/rows.h"
#include "runtime/base/check.h"

namespace ccoe::kernels {
namespace {

bool Aligned16(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

void CheckShapes(const ConstMatrix& x, absl::Span<const LinearPart> parts) {
  CCOE_CHECK(x.dtype == DType::kF32 && x.cols < (int64_t{1} << 31));  // kernels count in 32 bits
  for (const LinearPart& part : parts) {
    CCOE_CHECK(IsFloat(part.weight.dtype) && part.weight.cols == x.cols);
    CCOE_CHECK(part.out.dtype == DType::kF32 && part.out.rows == x.rows &&
               part.out.cols == part.weight.rows);
    CCOE_CHECK(part.bias.empty() ||
               (IsFloat(part.bias.dtype) && part.bias.cols == part.weight.rows));
  }
}

void SetPart(const LinearPart& from, int64_t col_begin, MatmulPart* part) {
  part->weight = from.weight.data;
  part->stride = from.weight.stride;
  part->dtype = from.weight.dtype;
  part->cols = from.weight.rows;
  part->bias = from.bias.data;
  part->bias_dtype = from.bias.dtype;
  part->out = static_cast<float*>(from.out.data);
  part->out_stride = from.out.stride;
  part->accumulate = from.accumulate;
  part->col_begin = col_begin;
}

constexpr int64_t kTileCols = 128;
constexpr int64_t kMaxTileRows = 128;

// Of x as bf16, [rows, k rounded up to a step].
int64_t RoundedBytes(int64_t rows, int64_t k) {
  return RoundUp(rows * RoundUp(k, kFeatureStep) * 2, 256);
}

// Of one head's among others', without room between them.
int64_t RoundedHeadBytes(int64_t rows, int64_t k) { return rows * RoundUp(k, kFeatureStep) * 2; }

// x as bf16 at `to`, [rows, k rounded up to a step].
void RoundX(Stream* stream, const ConstMatrix& x, char* to) {
  RoundRowsParams round;
  ClearParams(&round);
  SetView(x, &round.x);
  round.out = to;
  round.padded = RoundUp(x.cols, kFeatureStep);
  CudaRoundRows(stream, round);
}

class LinearCall {
 public:
  LinearCall(Stream* stream, const MatmulOptions& options, const ConstMatrix& x,
             absl::Span<const LinearPart* const> parts)
      : stream_(stream), options_(options), x_(x) {
    ClearParams(&params_);
    params_.x = x.data;
    params_.x_stride = x.stride;
    params_.rows = x.rows;
    params_.k = x.cols;
    launch_.fast = true;
    for (const LinearPart* part : parts) {
      SetPart(*part, params_.partial_cols, &params_.parts[params_.part_count++]);
      params_.partial_cols += part->weight.rows;
      launch_.fast = launch_.fast && HasFastWeights(part->weight);
    }
  }

  void Run() {
    if (options_.math == DType::kF32) {
      CudaMatmulF32(stream_, launch_, x_.rows <= 2 * kF32SmallRows ? kF32SmallRows : kF32LargeRows,
                    &params_);
    } else if (x_.rows <= kSkinnyRows) {
      launch_.fast = launch_.fast && HasFastRows(x_);
      CudaMatmulSkinny(stream_, launch_, x_.rows <= 8 ? 8 : 16, &params_);
    } else {
      RunTiles();
    }
  }

 private:
  void RunTiles() {
    const int tile_rows = TileRowsFor(x_.rows);
    const int64_t x_bytes = RoundedBytes(x_.rows, x_.cols);
    const int64_t segments = CeilDiv(RoundUp(x_.cols, kFeatureStep), SegmentLength(x_.cols));
    int64_t blocks = 0;
    for (int i = 0; i < params_.part_count; ++i) {
      blocks += CeilDiv(params_.parts[i].cols, kTileCols) * CeilDiv(x_.rows, tile_rows);
    }
    // Too few tiles to fill the device: the segments become blocks of their own.
    const bool split = segments > 1 && blocks < stream_->multiprocessors();
    const int64_t partial_bytes = split ? segments * x_.rows * params_.partial_cols * 4 : 0;
    char* workspace = stream_->Workspace(x_bytes + partial_bytes);
    if (workspace == nullptr) return;
    RoundX(stream_, x_, workspace);
    params_.x = workspace;
    params_.x_stride = RoundUp(x_.cols, kFeatureStep);
    if (split) params_.partials = reinterpret_cast<float*>(workspace + x_bytes);
    CudaMatmulTile(stream_, launch_, tile_rows, split, &params_);
  }

  Stream* const stream_;
  const MatmulOptions& options_;
  const ConstMatrix& x_;
  MatmulParams params_;
  MatmulLaunch launch_;
};

// Heads whose rounded x is held at a time.
int64_t HeadsAtOnce(int64_t heads, int64_t rows, int64_t k) {
  constexpr int64_t kMostBytes = int64_t{64} << 20;
  return std::clamp<int64_t>(kMostBytes / RoundedHeadBytes(rows, k), 1, heads);
}

class HeadLinearCall {
 public:
  HeadLinearCall(Stream* stream, const MatmulOptions& options, const HeadLinearArgs& args)
      : stream_(stream), options_(options), args_(args) {
    ClearParams(&params_);
    params_.x = args.x.data;
    params_.x_stride = args.x.stride;
    params_.rows = args.x.rows;
    params_.k = args.x.cols;
    params_.part_count = 1;
    SetPart({args.weight, {}, args.out, /*accumulate=*/false}, 0, &params_.parts[0]);
    params_.head_x = args.x_step;
    params_.head_weight =
        args.weight_step * args.weight.stride * static_cast<int64_t>(DTypeBytes(args.weight.dtype));
    params_.head_out = args.out_step;
    launch_.fast = HasFastWeights(args.weight);
    launch_.heads = args.heads;
  }

  void Run() {
    const int64_t rows = args_.x.rows;
    if (options_.math == DType::kF32) {
      CudaMatmulF32(stream_, launch_, rows <= 2 * kF32SmallRows ? kF32SmallRows : kF32LargeRows,
                    &params_);
    } else if (rows <= kSkinnyRows) {
      launch_.fast = launch_.fast && HasFastRows(args_.x) && args_.x_step % 4 == 0;
      CudaMatmulSkinny(stream_, launch_, rows <= 8 ? 8 : 16, &params_);
    } else {
      RunTiles();
    }
  }

 private:
  void RunTiles() {
    const int64_t rows = args_.x.rows, k = args_.x.cols;
    const bool shared_x = args_.x_step == 0;
    const int64_t at_once = shared_x ? args_.heads : HeadsAtOnce(args_.heads, rows, k);
    char* workspace = stream_->Workspace((shared_x ? 1 : at_once) * RoundedHeadBytes(rows, k));
    if (workspace == nullptr) return;
    params_.x = workspace;
    params_.x_stride = RoundUp(k, kFeatureStep);
    params_.head_x = shared_x ? 0 : rows * params_.x_stride;
    const MatmulParams first = params_;
    for (int64_t begin = 0; begin < args_.heads; begin += at_once) {
      launch_.heads = std::min(at_once, args_.heads - begin);
      Round(begin, shared_x ? 1 : launch_.heads, workspace);
      params_.parts[0] = first.parts[0];
      params_.parts[0].weight =
          static_cast<const char*>(first.parts[0].weight) + begin * params_.head_weight;
      params_.parts[0].out += begin * params_.head_out;
      CudaMatmulTile(stream_, launch_, TileRowsFor(rows), /*split=*/false, &params_);
    }
  }

  void Round(int64_t begin, int64_t heads, char* to) {
    RoundRowsParams round;
    ClearParams(&round);
    ConstMatrix x = args_.x;
    x.data = static_cast<const float*>(x.data) + begin * args_.x_step;
    SetView(x, &round.x);
    round.out = to;
    round.padded = params_.x_stride;
    round.more = heads - 1;
    round.x_step = args_.x_step;
    CudaRoundRows(stream_, round);
  }

  Stream* const stream_;
  const MatmulOptions& options_;
  const HeadLinearArgs& args_;
  MatmulParams params_;
  MatmulLaunch launch_;
};

void RunOwn(Stream* stream, const MatmulOptions& options, const ConstMatrix& x,
            absl::Span<const LinearPart> parts) {
  std::vector<const LinearPart*> batch;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].weight.rows > 0) batch.push_back(&parts[i]);
    if (batch.empty() || (batch.size() < kMaxParts && i + 1 < parts.size())) continue;
    LinearCall(stream, options, x, batch).Run();
    batch.clear();
  }
}

bool BlasTakes(const MatmulOptions& options, const LinearPart& part) {
  return options.math == DType::kF32 ? part.weight.dtype == DType::kF32
                                     : HasFastWeights(part.weight);
}

// False where this part must be computed by our own kernels.
bool RunBlas(Stream* stream, Blas* blas, const BlasProduct& like, const LinearPart& part,
             void* workspace) {
  BlasProduct product = like;
  product.weight = part.weight.data;
  product.weight_stride = part.weight.stride;
  product.out = static_cast<float*>(part.out.data);
  product.out_stride = part.out.stride;
  product.cols = part.weight.rows;
  product.accumulate = part.accumulate;
  if (!blas->Multiply(product, workspace, stream)) return false;
  if (part.bias.empty()) return true;
  MatmulParams bias;
  ClearParams(&bias);
  bias.rows = like.rows;
  bias.part_count = 1;
  SetPart(part, 0, &bias.parts[0]);
  CudaAddBias(stream, bias);
  return true;
}

}  // namespace

bool HasFastWeights(const ConstMatrix& weight) {
  return weight.dtype == DType::kBF16 && Aligned16(weight.data) && weight.stride % 8 == 0 &&
         weight.cols % 8 == 0;
}

bool HasFastRows(const ConstMatrix& x) {
  return x.dtype == DType::kF32 && Aligned16(x.data) && x.stride % 4 == 0 && x.cols % 8 == 0;
}

int64_t LinearWorkspace(const MatmulOptions& options, int multiprocessors, int64_t rows, int64_t in,
                        int64_t out) {
  const bool rounds = options.math != DType::kF32;
  const int64_t x_bytes = rounds ? RoundedBytes(rows, in) : 0;
  // Split: fewer blocks than multiprocessors, each of kTileCols columns and kMaxTileRows rows at
  // most.
  const int64_t most_values = int64_t{multiprocessors} * kTileCols * kMaxTileRows;
  const int64_t partials = rounds ? kSegments * std::min(rows * out, most_values) * 4 : 0;
  const int64_t blas = options.deterministic ? 0 : static_cast<int64_t>(Blas::kWorkspaceBytes);
  return x_bytes + std::max(partials, blas);
}

int64_t HeadLinearWorkspace(const MatmulOptions& options, int64_t rows, int64_t heads, int64_t in) {
  if (options.math == DType::kF32 || rows == 0 || heads == 0 || in == 0) return 0;
  return HeadsAtOnce(heads, rows, in) * RoundedHeadBytes(rows, in);
}

void CudaHeadLinear(Stream* stream, const MatmulOptions& options, const HeadLinearArgs& args) {
  CheckShapes(args);
  CCOE_CHECK(args.heads < (1 << 16));  // blocks in z
  if (args.heads == 0 || args.x.rows == 0 || args.x.cols == 0 || args.weight.rows == 0) return;
  HeadLinearCall(stream, options, args).Run();
}

void CudaLinear(Stream* stream, Blas* blas, const MatmulOptions& options, const ConstMatrix& x,
                absl::Span<const LinearPart> parts) {
  CheckShapes(x, parts);
  if (x.rows == 0 || x.cols == 0) return;
  if (options.deterministic || blas == nullptr || x.rows <= kSkinnyRows) {
    return RunOwn(stream, options, x, parts);
  }
  const bool rounds = options.math != DType::kF32;
  const int64_t padded = RoundUp(x.cols, kFeatureStep);
  const int64_t x_bytes = rounds ? RoundedBytes(x.rows, x.cols) : 0;
  char* workspace = stream->Workspace(x_bytes + Blas::kWorkspaceBytes);
  if (workspace == nullptr) return;
  BlasProduct product;
  product.x = rounds ? workspace : x.data;
  product.x_stride = rounds ? padded : x.stride;
  product.rows = x.rows;
  product.k = x.cols;
  product.dtype = rounds ? DType::kBF16 : DType::kF32;
  if (rounds) RoundX(stream, x, workspace);
  std::vector<LinearPart> left;
  for (const LinearPart& part : parts) {
    if (part.weight.rows == 0) continue;
    const bool done =
        BlasTakes(options, part) && RunBlas(stream, blas, product, part, workspace + x_bytes);
    if (!done) left.push_back(part);
  }
  if (!left.empty()) RunOwn(stream, options, x, left);
}

}  // namespace ccoe::kernels
