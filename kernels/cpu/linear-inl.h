// SPDX-License-Identifier: Apache-2.0
// The register tiles of matrix products, shared by Linear and GroupedFfn, so that both sum alike.
//
// Dot products vectorised along K. Every output element has one vector accumulator that runs over
// all of K in steps of one vector, then one fixed tree adds its lanes; so tiles, row blocks and
// tasks may be cut anyhow without changing a bit of any element.
//
// Weights are read in place and widened in registers, once for each register tile. bf16 is widened
// two vectors at a time, the elements at even places by a shift and those at odd places by a mask,
// so x is packed in the same order for it.
//
// Included once for each Highway target, so the guard toggles.
#if defined(CCOE_KERNELS_CPU_LINEAR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CCOE_KERNELS_CPU_LINEAR_INL_H_
#undef CCOE_KERNELS_CPU_LINEAR_INL_H_
#else
#define CCOE_KERNELS_CPU_LINEAR_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"
#include "kernels/rounding.h"
#include "kernels/view.h"

HWY_BEFORE_NAMESPACE();
namespace ccoe::kernels {
namespace HWY_NAMESPACE {

// A register tile is kTileCols weight rows by up to kTileRows rows of x: 24 accumulators, 4 weights
// and one x in 32 registers; half of it where there are 16.
constexpr int64_t kTileCols = 4;
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || HWY_TARGET == HWY_NEON
constexpr int64_t kTileRows = 6;
#else
constexpr int64_t kTileRows = 3;
#endif

// K is walked in units of two vectors, called phases.
constexpr int64_t kUnit = 2 * kLanes;

// Floats of x that one task multiplies with its weights: half of L2.
constexpr int64_t kBlockFloats = 128 * 1024;
constexpr int64_t kTasksPerThread = 8;
// Elements from which on packing is worth a loop over the cores.
constexpr int64_t kMinPackedApart = 128 * 1024;
// Multiply-adds below which a task is not worth handing out.
constexpr int64_t kMinTaskWork = 64 * 1024;

// x in panels of at most kTileRows rows, [panel][unit][phase][row][lane], zeros behind K. The
// phases of a unit are its first and second vector, or (`paired`) its elements at even and odd
// places.
struct PackedX {
  float* data = nullptr;
  int64_t rows = 0;
  int64_t panels = 0;
  int64_t units = 0;
  bool paired = false;
  int64_t small_panel = 0;
  int64_t large_panels = 0;

  PackedX() = default;
  PackedX(int64_t row_count, int64_t cols, DType weights)
      : rows(row_count),
        panels(CeilDiv(row_count, kTileRows)),
        units(CeilDiv(cols, kUnit)),
        paired(weights == DType::kBF16),
        small_panel(panels > 0 ? rows / panels : 0),
        large_panels(panels > 0 ? rows % panels : 0) {}

  // What `data` must hold.
  int64_t Floats() const { return rows * units * kUnit; }

  // Panels are of equal size, but for the first ones, which have a row more where it does not come
  // out even.
  int64_t RowBegin(int64_t panel) const {
    return panel * small_panel + std::min(panel, large_panels);
  }
  float* Panel(int64_t panel) const { return data + RowBegin(panel) * units * kUnit; }
};

// The phases of the kUnit elements at `from`.
HWY_INLINE void SplitUnit(const float* HWY_RESTRICT from, bool paired, VF* v0, VF* v1) {
  const DF d;
  if (paired) {
    hn::LoadInterleaved2(d, from, *v0, *v1);
  } else {
    *v0 = hn::LoadU(d, from);
    *v1 = hn::LoadU(d, from + kLanes);
  }
}

// Writes `count` elements of row `row` of a panel, those from unit `unit` on, and zeros behind them
// to the end of their last unit.
inline void PackRow(const float* from, int64_t count, const PackedX& to, int64_t panel, int64_t row,
                    int64_t unit) {
  const DF d;
  const int64_t rows = to.RowBegin(panel + 1) - to.RowBegin(panel);
  const int64_t whole = count - count % kUnit;
  float* out = to.Panel(panel) + unit * rows * kUnit + row * kLanes;
  VF v0, v1;
  for (int64_t i = 0; i < whole; i += kUnit, out += rows * kUnit) {
    SplitUnit(from + i, to.paired, &v0, &v1);
    hn::Store(v0, d, out);
    hn::Store(v1, d, out + rows * kLanes);
  }
  if (whole == count) return;
  HWY_ALIGN float tail[kUnit] = {};
  std::copy(from + whole, from + count, tail);
  SplitUnit(tail, to.paired, &v0, &v1);
  hn::Store(v0, d, out);
  hn::Store(v1, d, out + rows * kLanes);
}

// One panel of `x`, or of its rows `rows[0]`, `rows[1]`, ... where that is not null.
inline void PackPanel(const ConstMatrix& x, const int32_t* rows, const PackedX& to, int64_t panel) {
  const int64_t begin = to.RowBegin(panel);
  const int64_t end = to.RowBegin(panel + 1);
  for (int64_t r = begin; r < end; ++r) {
    const float* from = static_cast<const float*>(x.Row(rows == nullptr ? r : rows[r]));
    PackRow(from, x.cols, to, panel, r - begin, /*unit=*/0);
  }
}

// One phase of a unit of weights.
template <int kPhase, class T>
HWY_INLINE VF LoadPhase(const T* HWY_RESTRICT unit) {
  return LoadF32(DF(), unit + kPhase * kLanes);
}

#if HWY_TARGET == HWY_SCALAR
template <int kPhase>
HWY_INLINE VF LoadPhase(const BF16* HWY_RESTRICT unit) {
  return hn::Set(DF(), ToF32(unit[kPhase]));
}
#else
template <int kPhase>
HWY_INLINE VF LoadPhase(const BF16* HWY_RESTRICT unit) {
  const DF d;
  const hn::RebindToUnsigned<DF> d32;
  const auto pairs = hn::LoadU(d32, reinterpret_cast<const uint32_t*>(unit));
  return hn::BitCast(
      d, kPhase == 0 ? hn::ShiftLeft<16>(pairs) : hn::And(pairs, hn::Set(d32, 0xffff0000u)));
}
#endif

// The value of `offset`, hidden from the compiler: it would keep the first phase's loads in
// registers for the second, and spill accumulators for it.
HWY_INLINE int64_t Hidden(int64_t offset) {
#if HWY_COMPILER_GCC || HWY_COMPILER_CLANG
  __asm__("" : "+r"(offset));
#endif
  return offset;
}

// Where a finished tile goes.
struct TileOut {
  float* out = nullptr;  // element (0, 0) of the tile
  int64_t stride = 0;
  const float* bias = nullptr;  // kTileCols values
  bool accumulate = false;
  int64_t cols = kTileCols;       // columns that exist
  const int32_t* rows = nullptr;  // row r lies rows[r] rows from `out`; null: r rows
  const float* scales = nullptr;  // row r is multiplied with scales[r]; null: none
};

// One row of a finished tile from its accumulators.
HWY_INLINE void FinishRow(const TileOut& to, int64_t row, VF c0, VF c1, VF c2, VF c3) {
  float* HWY_RESTRICT out = to.out + (to.rows == nullptr ? row : to.rows[row]) * to.stride;
#if HWY_TARGET != HWY_SCALAR
  if (HWY_LIKELY(to.cols == kTileCols)) {
    const hn::CappedTag<float, 4> d4;
    auto value = hn::Add(SumLanesOf4(c0, c1, c2, c3), hn::LoadU(d4, to.bias));
    if (to.scales != nullptr) value = hn::Mul(value, hn::Set(d4, to.scales[row]));
    if (to.accumulate) value = hn::Add(hn::LoadU(d4, out), value);
    hn::StoreU(value, d4, out);
    return;
  }
#endif
  float sums[kTileCols];
  SumLanes4(c0, c1, c2, c3, sums);
  const int64_t cols = std::min(to.cols, kTileCols);
  for (int64_t j = 0; j < cols; ++j) {
    float value = sums[j] + to.bias[j];
    if (to.scales != nullptr) value *= to.scales[row];
    out[j] = to.accumulate ? out[j] + value : value;
  }
}

// kTileCols weight rows.
template <class T>
struct WeightRows {
  const T* row[kTileCols];
  // Fetched into the caches along the way: rows of the next tile, or the same rows again.
  const T* next[kTileCols];
  // The last, partial unit of each row, zeros behind it; null where K is a whole number of units.
  const T* tail[kTileCols];
};

template <class T>
HWY_INLINE void PrefetchUnit(const WeightRows<T>& w, int64_t offset) {
  for (int64_t j = 0; j < kTileCols; ++j) {
    hwy::Prefetch(w.next[j] + offset);
    if constexpr (kUnit * sizeof(T) > 64) hwy::Prefetch(w.next[j] + offset + kLanes);
  }
}

// Named accumulators: compilers do not keep arrays of vectors in registers reliably.
#define CCOE_TILE_ROWS(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)
#define CCOE_TILE_ZERO(r) \
  [[maybe_unused]] VF c##r##0 = zero, c##r##1 = zero, c##r##2 = zero, c##r##3 = zero;
#define CCOE_TILE_ROW(r)                       \
  if constexpr (MR > r) {                      \
    const VF xr = hn::Load(d, x + r * kLanes); \
    c##r##0 = hn::MulAdd(xr, w0, c##r##0);     \
    c##r##1 = hn::MulAdd(xr, w1, c##r##1);     \
    c##r##2 = hn::MulAdd(xr, w2, c##r##2);     \
    c##r##3 = hn::MulAdd(xr, w3, c##r##3);     \
  }
#define CCOE_TILE_PHASE(phase, from, offset)            \
  {                                                     \
    const VF w0 = LoadPhase<phase>(from[0] + (offset)); \
    const VF w1 = LoadPhase<phase>(from[1] + (offset)); \
    const VF w2 = LoadPhase<phase>(from[2] + (offset)); \
    const VF w3 = LoadPhase<phase>(from[3] + (offset)); \
    CCOE_TILE_ROWS(CCOE_TILE_ROW)                       \
    x += MR * kLanes;                                   \
  }
#define CCOE_TILE_FINISH(r) \
  if constexpr (MR > r) FinishRow(to, r, c##r##0, c##r##1, c##r##2, c##r##3);

// MR rows of a packed panel times four weight rows: `units` whole units, then the tail.
template <int MR, class T>
HWY_NOINLINE void Tile(const float* HWY_RESTRICT x, const WeightRows<T>& w, int64_t units,
                       const TileOut& to) {
  const DF d;
  const VF zero = hn::Zero(d);
  CCOE_TILE_ROWS(CCOE_TILE_ZERO)
  const int64_t end = units * kUnit;
  for (int64_t offset = 0; offset < end; offset += kUnit) {
    PrefetchUnit(w, offset);
    CCOE_TILE_PHASE(0, w.row, offset)
    const int64_t again = Hidden(offset);
    CCOE_TILE_PHASE(1, w.row, again)
  }
  if (w.tail[0] != nullptr) {
    CCOE_TILE_PHASE(0, w.tail, 0)
    CCOE_TILE_PHASE(1, w.tail, 0)
  }
  CCOE_TILE_ROWS(CCOE_TILE_FINISH)
}

#undef CCOE_TILE_ROWS
#undef CCOE_TILE_ZERO
#undef CCOE_TILE_ROW
#undef CCOE_TILE_PHASE
#undef CCOE_TILE_FINISH

template <class T>
void TileOfRows(int64_t rows, const float* x, const WeightRows<T>& w, int64_t units,
                const TileOut& to) {
  static_assert(kTileRows <= 6);
  switch (rows) {
    case 1:
      return Tile<1>(x, w, units, to);
    case 2:
      return Tile<2>(x, w, units, to);
    case 3:
      return Tile<3>(x, w, units, to);
    case 4:
      if constexpr (kTileRows >= 4) return Tile<4>(x, w, units, to);
      break;
    case 5:
      if constexpr (kTileRows >= 5) return Tile<5>(x, w, units, to);
      break;
    case 6:
      if constexpr (kTileRows >= 6) return Tile<6>(x, w, units, to);
      break;
  }
}

// A matrix product and where its elements go.
struct MatrixProduct {
  ConstMatrix weight;
  ConstMatrix bias;  // or empty
  float* out = nullptr;
  int64_t stride = 0;
  // Which element lies at `out`.
  int64_t row_begin = 0;
  int64_t col_begin = 0;
  bool accumulate = false;
  // See TileOut. Then row_begin is 0.
  const int32_t* rows = nullptr;
  const float* scales = nullptr;
};

// The bias of columns [col, col + count) as f32 in `to`, zeros where there is none or no column.
inline void WidenBias(const MatrixProduct& product, int64_t col, int64_t count, float* to) {
  for (int64_t j = 0; j < count; ++j) {
    const bool none = product.bias.empty() || col + j >= product.weight.rows;
    to[j] = none ? 0.0f : ElementF32(product.bias.data, product.bias.dtype, col + j);
  }
}

inline TileOut OutAt(const MatrixProduct& product, int64_t row, int64_t col, const float* bias) {
  TileOut to;
  to.out = product.out + col - product.col_begin;
  to.stride = product.stride;
  to.bias = bias;
  to.accumulate = product.accumulate;
  to.cols = std::min(kTileCols, product.weight.rows - col);
  if (product.rows != nullptr) {
    to.rows = product.rows + row;
  } else {
    to.out += (row - product.row_begin) * product.stride;
  }
  if (product.scales != nullptr) to.scales = product.scales + row;
  return to;
}

// Output columns [col_begin, col_end) for the row panels [panel_begin, panel_end).
struct Block {
  int64_t panel_begin = 0;
  int64_t panel_end = 0;
  int64_t col_begin = 0;
  int64_t col_end = 0;
  int64_t fetch_end = 0;  // weight rows to fetch ahead end here; >= col_end
};

// Points w at the weight rows from `col`; rows that do not exist are the last one again. `tails`
// holds what is behind the last whole unit.
template <class T>
void PointAt(const ConstMatrix& weight, int64_t col, T (&tails)[kTileCols][kUnit],
             WeightRows<T>* w) {
  const int64_t whole = weight.cols - weight.cols % kUnit;
  for (int64_t j = 0; j < kTileCols; ++j) {
    w->row[j] = static_cast<const T*>(weight.Row(std::min(col + j, weight.rows - 1)));
    if (whole == weight.cols) continue;
    std::copy(w->row[j] + whole, w->row[j] + weight.cols, tails[j]);
    w->tail[j] = tails[j];
  }
}

// Four weight rows stay in L1 for all row panels, which share the work of fetching the next four.
template <class T>
void RunBlockOf(const PackedX& x, const MatrixProduct& product, const Block& block) {
  const int64_t units = product.weight.cols / kUnit;
  const int64_t panels = block.panel_end - block.panel_begin;
  WeightRows<T> w = {};
  T tails[kTileCols][kUnit] = {};
  float bias[kTileCols];
  for (int64_t col = block.col_begin; col < block.col_end; col += kTileCols) {
    PointAt(product.weight, col, tails, &w);
    WidenBias(product, col, kTileCols, bias);
    for (int64_t i = 0; i < panels; ++i) {
      for (int64_t j = 0; j < kTileCols; ++j) {
        const bool fetch = j * panels / kTileCols == i && col + kTileCols + j < block.fetch_end;
        w.next[j] = fetch ? w.row[j] + kTileCols * product.weight.stride : w.row[j];
      }
      const int64_t panel = block.panel_begin + i;
      const int64_t row = x.RowBegin(panel);
      TileOfRows(x.RowBegin(panel + 1) - row, x.Panel(panel), w, units,
                 OutAt(product, row, col, bias));
    }
  }
}

inline void RunBlock(const PackedX& x, const MatrixProduct& product, const Block& block) {
  switch (product.weight.dtype) {
    case DType::kF32:
      return RunBlockOf<float>(x, product, block);
    case DType::kF16:
      return RunBlockOf<F16>(x, product, block);
    default:
      return RunBlockOf<BF16>(x, product, block);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace ccoe::kernels
HWY_AFTER_NAMESPACE();

#endif  // CCOE_KERNELS_CPU_LINEAR_INL_H_
