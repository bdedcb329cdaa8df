// Dot products vectorised along K. Every output element has one vector accumulator that runs over
// all of K in steps of one vector, then one fixed tree adds its lanes; so tiles, row blocks and
// tasks may be cut anyhow without changing a bit of any element.
//
// Weights are read in place and widened in registers, once for each register tile. bf16 is widened
// two vectors at a time, the elements at even places by a shift and those at odd places by a mask,
// so x is packed in the same order for it.
#include "kernels/cpu/linear.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "runtime/base/check.h"

// The order of these matters.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "hwy/cache_control.h"
#include "kernels/cpu/simd-inl.h"
// clang-format on

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
// Multiply-adds below which a task is not worth handing out.
constexpr int64_t kMinTaskWork = 64 * 1024;

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

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

void PackPanel(const ConstMatrix& x, const PackedX& to, int64_t panel) {
  const DF d;
  const int64_t begin = to.RowBegin(panel);
  const int64_t rows = to.RowBegin(panel + 1) - begin;
  const int64_t full = x.cols / kUnit;
  for (int64_t r = 0; r < rows; ++r) {
    const float* from = static_cast<const float*>(x.Row(begin + r));
    float* out = to.Panel(panel) + r * kLanes;
    HWY_ALIGN float tail[kUnit] = {};
    std::copy(from + full * kUnit, from + x.cols, tail);
    for (int64_t unit = 0; unit < to.units; ++unit, out += 2 * rows * kLanes) {
      VF v0, v1;
      SplitUnit(unit < full ? from + unit * kUnit : tail, to.paired, &v0, &v1);
      hn::Store(v0, d, out);
      hn::Store(v1, d, out + rows * kLanes);
    }
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
  int64_t cols = kTileCols;  // columns that exist
};

// One row of a finished tile from its accumulators.
HWY_INLINE void FinishRow(const TileOut& to, int64_t row, VF c0, VF c1, VF c2, VF c3) {
  float* HWY_RESTRICT out = to.out + row * to.stride;
#if HWY_TARGET != HWY_SCALAR
  if (HWY_LIKELY(to.cols == kTileCols)) {
    const hn::CappedTag<float, 4> d4;
    auto value = hn::Add(SumLanesOf4(c0, c1, c2, c3), hn::LoadU(d4, to.bias));
    if (to.accumulate) value = hn::Add(hn::LoadU(d4, out), value);
    hn::StoreU(value, d4, out);
    return;
  }
#endif
  float sums[kTileCols];
  SumLanes4(c0, c1, c2, c3, sums);
  const int64_t cols = std::min(to.cols, kTileCols);
  for (int64_t j = 0; j < cols; ++j) {
    const float value = sums[j] + to.bias[j];
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

// The bias of columns [col, col + count) as f32 in `to`, zeros where there is none or no column.
void WidenBias(const LinearPart& part, int64_t col, int64_t count, float* to) {
  for (int64_t j = 0; j < count; ++j) {
    to[j] = 0.0f;
    if (part.bias.empty() || col + j >= part.weight.rows) continue;
    const void* row = part.bias.data;
    switch (part.bias.dtype) {
      case DType::kF16:
        to[j] = ToF32(static_cast<const F16*>(row)[col + j]);
        break;
      case DType::kBF16:
        to[j] = ToF32(static_cast<const BF16*>(row)[col + j]);
        break;
      default:
        to[j] = static_cast<const float*>(row)[col + j];
    }
  }
}

TileOut OutAt(const LinearPart& part, int64_t row, int64_t col, const float* bias) {
  TileOut to;
  to.out = static_cast<float*>(part.out.Row(row)) + col;
  to.stride = part.out.stride;
  to.bias = bias;
  to.accumulate = part.accumulate;
  to.cols = std::min(kTileCols, part.weight.rows - col);
  return to;
}

// Output columns [col_begin, col_end) for the row panels [panel_begin, panel_end).
struct Block {
  int64_t panel_begin = 0;
  int64_t panel_end = 0;
  int64_t col_begin = 0;
  int64_t col_end = 0;
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
void RunBlock(const PackedX& x, const LinearPart& part, const Block& block) {
  const int64_t units = part.weight.cols / kUnit;
  const int64_t panels = block.panel_end - block.panel_begin;
  WeightRows<T> w = {};
  T tails[kTileCols][kUnit] = {};
  float bias[kTileCols];
  for (int64_t col = block.col_begin; col < block.col_end; col += kTileCols) {
    PointAt(part.weight, col, tails, &w);
    WidenBias(part, col, kTileCols, bias);
    for (int64_t i = 0; i < panels; ++i) {
      for (int64_t j = 0; j < kTileCols; ++j) {
        const bool fetch = j * panels / kTileCols == i && col + kTileCols + j < block.col_end;
        w.next[j] = fetch ? w.row[j] + kTileCols * part.weight.stride : w.row[j];
      }
      const int64_t panel = block.panel_begin + i;
      const int64_t row = x.RowBegin(panel);
      TileOfRows(x.RowBegin(panel + 1) - row, x.Panel(panel), w, units,
                 OutAt(part, row, col, bias));
    }
  }
}

// How the columns of all parts and the rows are cut into tasks.
struct Plan {
  int64_t task_cols = 0;   // a multiple of kTileCols
  int64_t row_blocks = 1;  // over panels
};

Plan MakePlan(const ThreadTeam& team, const PackedX& x, absl::Span<const LinearPart* const> parts) {
  Plan plan;
  plan.row_blocks = std::min(x.panels, CeilDiv(x.rows * x.units * kUnit, kBlockFloats));
  int64_t cols = 0;
  for (const LinearPart* part : parts) cols += part->weight.rows;
  const int64_t by_threads = cols * plan.row_blocks / (kTasksPerThread * team.size());
  const int64_t row_work = x.units * kUnit * CeilDiv(x.rows, plan.row_blocks);
  const int64_t least = CeilDiv(kMinTaskWork, row_work);
  plan.task_cols = CeilDiv(std::max<int64_t>({by_threads, least, 1}), kTileCols) * kTileCols;
  return plan;
}

void RunTask(const PackedX& x, absl::Span<const LinearPart* const> parts, const Plan& plan,
             int64_t task) {
  const int64_t row_block = task % plan.row_blocks;
  int64_t col_block = task / plan.row_blocks;
  for (const LinearPart* part : parts) {
    const int64_t col_blocks = CeilDiv(part->weight.rows, plan.task_cols);
    if (col_block >= col_blocks) {
      col_block -= col_blocks;
      continue;
    }
    Block block;
    block.panel_begin = x.panels * row_block / plan.row_blocks;
    block.panel_end = x.panels * (row_block + 1) / plan.row_blocks;
    block.col_begin = col_block * plan.task_cols;
    block.col_end = std::min(block.col_begin + plan.task_cols, part->weight.rows);
    switch (part->weight.dtype) {
      case DType::kF32:
        return RunBlock<float>(x, *part, block);
      case DType::kF16:
        return RunBlock<F16>(x, *part, block);
      default:
        return RunBlock<BF16>(x, *part, block);
    }
  }
}

void PackX(ThreadTeam* team, const ConstMatrix& x, const PackedX& packed) {
  constexpr int64_t kMinParallel = 128 * 1024;  // elements
  const int64_t tasks =
      x.rows * x.cols < kMinParallel ? 1 : std::min<int64_t>(packed.panels, 4 * team->size());
  team->Run(tasks, [&](int64_t task) {
    const int64_t end = packed.panels * (task + 1) / tasks;
    for (int64_t panel = packed.panels * task / tasks; panel < end; ++panel)
      PackPanel(x, packed, panel);
  });
}

// The parts whose weights want x in this order.
void RunParts(ThreadTeam* team, Scratch* scratch, const ConstMatrix& x,
              absl::Span<const LinearPart> parts, bool paired) {
  std::vector<const LinearPart*> chosen;
  for (const LinearPart& part : parts) {
    if ((part.weight.dtype == DType::kBF16) == paired && part.weight.rows > 0)
      chosen.push_back(&part);
  }
  if (chosen.empty()) return;
  PackedX packed;
  packed.rows = x.rows;
  packed.panels = CeilDiv(x.rows, kTileRows);
  packed.units = CeilDiv(x.cols, kUnit);
  packed.paired = paired;
  packed.small_panel = packed.rows / packed.panels;
  packed.large_panels = packed.rows % packed.panels;
  packed.data = scratch->Floats(packed.rows * packed.units * kUnit);
  PackX(team, x, packed);
  const Plan plan = MakePlan(*team, packed, chosen);
  int64_t col_blocks = 0;
  for (const LinearPart* part : chosen) col_blocks += CeilDiv(part->weight.rows, plan.task_cols);
  team->Run(col_blocks * plan.row_blocks,
            [&](int64_t task) { RunTask(packed, chosen, plan, task); });
}

void LinearImpl(ThreadTeam* team, Scratch* scratch, const ConstMatrix& x,
                absl::Span<const LinearPart> parts) {
  RunParts(team, scratch, x, parts, /*paired=*/false);
  RunParts(team, scratch, x, parts, /*paired=*/true);
}

}  // namespace HWY_NAMESPACE
}  // namespace ccoe::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ccoe::kernels {
namespace {

bool IsFloat(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

}  // namespace

HWY_EXPORT(LinearImpl);

void CpuLinear(ThreadTeam* team, Scratch* packed, ConstMatrix x,
               absl::Span<const LinearPart> parts) {
  CCOE_CHECK(x.dtype == DType::kF32);
  for (const LinearPart& part : parts) {
    CCOE_CHECK(IsFloat(part.weight.dtype));
    CCOE_CHECK(part.weight.cols == x.cols);
    CCOE_CHECK(part.out.dtype == DType::kF32 && part.out.rows == x.rows &&
               part.out.cols == part.weight.rows);
    CCOE_CHECK(part.bias.empty() ||
               (IsFloat(part.bias.dtype) && part.bias.cols == part.weight.rows));
  }
  if (x.rows == 0 || x.cols == 0) return;
  HWY_DYNAMIC_DISPATCH(LinearImpl)(team, packed, x, parts);
}

}  // namespace ccoe::kernels
#endif  // HWY_ONCE
