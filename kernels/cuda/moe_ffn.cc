// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/moe_ffn.h"

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/grouped_ffn.h"
#include "kernels/cuda/moe_sort.h"
#include "kernels/cuda/rows.h"
#include "runtime/base/check.h"

namespace ccoe::kernels {
namespace {

bool SameShape(const ConstMatrix& m, int64_t rows, int64_t cols) {
  return IsFloat(m.dtype) && m.rows == rows && m.cols == cols;
}

void CheckShapes(const MoeFfnArgs& args) {
  const int64_t rows = args.x.rows, hidden = args.x.cols;
  CCOE_CHECK(args.x.dtype == DType::kF32 && hidden > 0 && args.top_k > 0);
  CCOE_CHECK(args.out.dtype == DType::kF32 && args.out.rows == rows && args.out.cols == hidden);
  CCOE_CHECK(args.contributions.dtype == DType::kF32 && args.contributions.cols == hidden &&
             args.contributions.rows >= rows * args.top_k);
  CCOE_CHECK(static_cast<int64_t>(args.experts.size()) >= args.top_k);
  CCOE_CHECK(rows * args.top_k <= INT32_MAX);
  for (const ExpertMatrices& expert : args.experts) {
    const int64_t intermediate = args.experts[0].gate.rows;
    CCOE_CHECK(SameShape(expert.gate, intermediate, hidden));
    CCOE_CHECK(SameShape(expert.up, intermediate, hidden));
    CCOE_CHECK(SameShape(expert.down, hidden, intermediate) && intermediate > 0);
  }
}

// What most experts will have no more of, if rows spread a bit unevenly. From the shapes alone: the
// same kernels, so the same graph, for every step of so many rows.
int64_t RowsAnExpert(int64_t rows, int64_t pairs, int64_t experts) {
  return std::min(rows, 2 * CeilDiv(pairs, experts));
}

// The sorted pairs, one array behind another.
class PairArrays {
 public:
  PairArrays(int64_t pairs, int64_t tiles) : pairs_(pairs), tiles_(tiles) {}

  int64_t Bytes() const { return 3 * Aligned(pairs_ * 4) + Aligned(tiles_ * kTileBytes) + 256; }
  void PlaceAt(char* memory, SortPairsParams* sort) const {
    const auto take = [&](int64_t bytes) {
      char* const taken = memory;
      memory += Aligned(bytes);
      return taken;
    };
    sort->x_rows = reinterpret_cast<int32_t*>(take(pairs_ * 4));
    sort->out_rows = reinterpret_cast<int32_t*>(take(pairs_ * 4));
    sort->pair_weights = reinterpret_cast<float*>(take(pairs_ * 4));
    sort->tiles = reinterpret_cast<MatmulTile*>(take(tiles_ * kTileBytes));
    sort->tile_count = reinterpret_cast<int32_t*>(memory);
  }

 private:
  static constexpr int64_t kTileBytes = sizeof(MatmulTile);
  static int64_t Aligned(int64_t bytes) { return RoundUp(bytes, 256); }

  const int64_t pairs_, tiles_;
};

void Combine(Stream* stream, const MoeFfnArgs& args) {
  CombineChosenParams combine;
  ClearParams(&combine);
  SetView(args.contributions, &combine.contributions);
  SetView(args.out, &combine.out);
  combine.chosen = args.chosen;
  combine.top_k = args.top_k;
  CudaCombineChosen(stream, combine);
}

}  // namespace

void CudaMoeFfn(Stream* stream, ExpertTables* tables, const MatmulOptions& options,
                const MoeFfnArgs& args) {
  CheckShapes(args);
  if (args.x.rows == 0) return;
  const ExpertTable* table = tables->Find(args.experts);
  if (table == nullptr) return;
  const int64_t pairs = args.x.rows * args.top_k;
  const auto experts = static_cast<int64_t>(args.experts.size());
  GroupedProducts products;
  products.kernels = ChooseGroupedKernels(options, RowsAnExpert(args.x.rows, pairs, experts));
  products.x = args.x;
  products.pairs = pairs;
  products.intermediate = args.experts[0].gate.rows;
  products.activation = args.activation;
  products.fast = table->fast;
  products.gated = table->gated;
  products.up = table->up;
  products.down = table->down;
  products.max_tiles = MaxTiles(pairs, experts, products.kernels.tile_rows);
  products.out = args.contributions;

  const PairArrays arrays(pairs, products.max_tiles);
  const int64_t products_bytes = products.WorkspaceBytes();
  char* workspace = stream->Workspace(products_bytes + arrays.Bytes());
  if (workspace == nullptr) return;
  SortPairsParams sort;
  ClearParams(&sort);
  sort.chosen = args.chosen;
  sort.weights = args.weights;
  sort.pairs = pairs;
  sort.top_k = static_cast<int32_t>(args.top_k);
  sort.experts = static_cast<int32_t>(experts);
  sort.tile_rows = products.kernels.tile_rows;
  arrays.PlaceAt(workspace + products_bytes, &sort);
  products.x_rows = sort.x_rows;
  products.out_rows = sort.out_rows;
  products.weights = sort.pair_weights;
  products.tiles = sort.tiles;
  products.tile_count = sort.tile_count;
  CudaSortPairs(stream, sort);
  products.Run(stream, workspace);
  Combine(stream, args);
}

}  // namespace ccoe::kernels
