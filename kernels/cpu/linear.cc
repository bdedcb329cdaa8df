// Dot products vectorised along K. Every output element has one vector accumulator that runs over
// all of K in steps of one vector, then one fixed tree adds its lanes; so tiles, blocks, packing
// and tasks may be cut anyhow without changing a bit of any element. Where K is cut into blocks for
// the caches, accumulators are stored and loaded whole.
//
// Few rows: weights are widened in registers, once a use. More rows: a block of weights is widened
// into f32 panels that stay in the caches and meet all row panels.
#include "kernels/cpu/linear.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

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

// Floats of K in one cache block: 6 rows of x and 4 of weights are then 25 KiB, within L1.
constexpr int64_t kBlockK = 640;
// Weight rows widened at a time: for many rows of x as many as L2 takes beside the accumulators;
// for few rows few, so that the next block can be fetched from memory while this one is multiplied.
constexpr int64_t kBlockColsMany = 64;
constexpr int64_t kBlockColsFew = 16;
constexpr int64_t kFewRows = 48;
// Rows of x that meet a block of weights before it is given up.
constexpr int64_t kBlockRows = 96;
constexpr int64_t kTasksPerThread = 8;
// Multiply-adds below which a task is not worth handing out.
constexpr int64_t kMinTaskWork = 64 * 1024;

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// x in panels of at most kTileRows rows: [panel][step][row][lane], zeros behind K.
struct PackedX {
  float* data = nullptr;
  int64_t rows = 0;
  int64_t panels = 0;
  int64_t steps = 0;

  int64_t RowBegin(int64_t panel) const { return rows * panel / panels; }
  float* Panel(int64_t panel) const { return data + RowBegin(panel) * steps * kLanes; }
};

void PackPanel(const ConstMatrix& x, const PackedX& to, int64_t panel) {
  const DF d;
  const int64_t begin = to.RowBegin(panel);
  const int64_t rows = to.RowBegin(panel + 1) - begin;
  const int64_t full = x.cols / kLanes;
  float* base = to.Panel(panel);
  for (int64_t r = 0; r < rows; ++r) {
    const float* from = static_cast<const float*>(x.Row(begin + r));
    float* row = base + r * kLanes;
    for (int64_t s = 0; s < full; ++s)
      hn::Store(hn::LoadU(d, from + s * kLanes), d, row + s * rows * kLanes);
    if (full < to.steps) {
      hn::Store(LoadTailF32(from + full * kLanes, x.cols - full * kLanes), d,
                row + full * rows * kLanes);
    }
  }
}

// Where a finished tile goes.
struct TileOut {
  float* out = nullptr;  // element (0, 0) of the tile
  int64_t stride = 0;
  const float* bias = nullptr;  // kTileCols values
  bool accumulate = false;
  int64_t cols = kTileCols;  // columns that exist
};

HWY_INLINE void WriteRow(const TileOut& to, int64_t row, const float* HWY_RESTRICT sums) {
  float* out = to.out + row * to.stride;
  for (int64_t j = 0; j < to.cols; ++j) {
    const float value = sums[j] + to.bias[j];
    out[j] = to.accumulate ? out[j] + value : value;
  }
}

// Four weight rows read in place.
template <class T>
struct RowsOfWeights {
  const T* row[kTileCols];
  int64_t ahead = 0;  // elements from these rows to the next tile's
  int64_t tail = 0;   // elements of the last, partial step

  HWY_INLINE VF Load(int64_t step, int j) const { return LoadF32(DF(), row[j] + step * kLanes); }
  HWY_INLINE VF LoadTail(int64_t step, int j) const {
    return LoadTailF32(row[j] + step * kLanes, tail);
  }
  HWY_INLINE bool HasTail() const { return tail != 0; }
  HWY_INLINE void Prefetch(int64_t step) const {
    constexpr int64_t kStepsPerLine =
        HWY_MAX(int64_t{1}, 64 / (kLanes * static_cast<int64_t>(sizeof(T))));
    if (step % kStepsPerLine != 0) return;
    for (int64_t j = 0; j < kTileCols; ++j) hwy::Prefetch(row[j] + ahead + step * kLanes);
  }
};

// A widened panel: [step][weight row][lane].
struct PanelOfWeights {
  const float* data = nullptr;
  // Two row segments of the next block, fetched along the way.
  const char* next[2] = {nullptr, nullptr};
  int64_t step_bytes = 0;

  HWY_INLINE VF Load(int64_t step, int j) const {
    return hn::Load(DF(), data + (step * kTileCols + j) * kLanes);
  }
  HWY_INLINE VF LoadTail(int64_t step, int j) const { return Load(step, j); }
  HWY_INLINE bool HasTail() const { return false; }
  HWY_INLINE void Prefetch(int64_t step) const {
    const int64_t offset = step * step_bytes;
    if ((offset & 63) != 0) return;
    hwy::Prefetch(next[0] + offset);
    hwy::Prefetch(next[1] + offset);
  }
};

// Named accumulators: compilers do not keep arrays of vectors in registers reliably.
#define CCOE_TILE_ROWS(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)
#define CCOE_TILE_ZERO(r) \
  [[maybe_unused]] VF c##r##0 = zero, c##r##1 = zero, c##r##2 = zero, c##r##3 = zero;
#define CCOE_TILE_RESUME(r)                                      \
  if constexpr (MR > r) {                                        \
    c##r##0 = hn::Load(d, carry + (r * kTileCols + 0) * kLanes); \
    c##r##1 = hn::Load(d, carry + (r * kTileCols + 1) * kLanes); \
    c##r##2 = hn::Load(d, carry + (r * kTileCols + 2) * kLanes); \
    c##r##3 = hn::Load(d, carry + (r * kTileCols + 3) * kLanes); \
  }
#define CCOE_TILE_STEP(r)                      \
  if constexpr (MR > r) {                      \
    const VF xr = hn::Load(d, x + r * kLanes); \
    c##r##0 = hn::MulAdd(xr, w0, c##r##0);     \
    c##r##1 = hn::MulAdd(xr, w1, c##r##1);     \
    c##r##2 = hn::MulAdd(xr, w2, c##r##2);     \
    c##r##3 = hn::MulAdd(xr, w3, c##r##3);     \
  }
#define CCOE_TILE_SUSPEND(r)                                     \
  if constexpr (MR > r) {                                        \
    hn::Store(c##r##0, d, carry + (r * kTileCols + 0) * kLanes); \
    hn::Store(c##r##1, d, carry + (r * kTileCols + 1) * kLanes); \
    hn::Store(c##r##2, d, carry + (r * kTileCols + 2) * kLanes); \
    hn::Store(c##r##3, d, carry + (r * kTileCols + 3) * kLanes); \
  }
#define CCOE_TILE_FINISH(r) \
  if constexpr (MR > r) SumLanes4(c##r##0, c##r##1, c##r##2, c##r##3, sums + r * kTileCols);

// What one call of a tile does with its accumulators.
struct TileSpan {
  int64_t steps = 0;       // whole steps, from where x and the weights point
  bool first = true;       // start from zero, else from `carry`
  bool last = true;        // write to `to`, else to `carry`
  float* carry = nullptr;  // [row][weight row][lane]
};

// MR rows of a packed panel times four weight rows.
template <int MR, class Weights>
HWY_NOINLINE void Tile(const float* HWY_RESTRICT x, const Weights& w, const TileSpan& span,
                       const TileOut& to) {
  const DF d;
  const VF zero = hn::Zero(d);
  float* HWY_RESTRICT carry = span.carry;
  CCOE_TILE_ROWS(CCOE_TILE_ZERO)
  if (!span.first) {
    CCOE_TILE_ROWS(CCOE_TILE_RESUME)
  }
  const int64_t steps = span.steps;
  for (int64_t step = 0; step < steps; ++step) {
    const VF w0 = w.Load(step, 0), w1 = w.Load(step, 1), w2 = w.Load(step, 2), w3 = w.Load(step, 3);
    w.Prefetch(step);
    CCOE_TILE_ROWS(CCOE_TILE_STEP)
    x += MR * kLanes;
  }
  if (w.HasTail()) {
    const VF w0 = w.LoadTail(steps, 0), w1 = w.LoadTail(steps, 1), w2 = w.LoadTail(steps, 2),
             w3 = w.LoadTail(steps, 3);
    CCOE_TILE_ROWS(CCOE_TILE_STEP)
  }
  if (!span.last) {
    CCOE_TILE_ROWS(CCOE_TILE_SUSPEND)
    return;
  }
  HWY_ALIGN float sums[MR * kTileCols];
  CCOE_TILE_ROWS(CCOE_TILE_FINISH)
  for (int64_t r = 0; r < MR; ++r) WriteRow(to, r, sums + r * kTileCols);
}

#undef CCOE_TILE_ROWS
#undef CCOE_TILE_ZERO
#undef CCOE_TILE_RESUME
#undef CCOE_TILE_STEP
#undef CCOE_TILE_SUSPEND
#undef CCOE_TILE_FINISH

template <class Weights>
void TileOfRows(int64_t rows, const float* x, const Weights& w, const TileSpan& span,
                const TileOut& to) {
  static_assert(kTileRows <= 6);
  switch (rows) {
    case 1:
      return Tile<1>(x, w, span, to);
    case 2:
      return Tile<2>(x, w, span, to);
    case 3:
      return Tile<3>(x, w, span, to);
    case 4:
      if constexpr (kTileRows >= 4) return Tile<4>(x, w, span, to);
      break;
    case 5:
      if constexpr (kTileRows >= 5) return Tile<5>(x, w, span, to);
      break;
    case 6:
      if constexpr (kTileRows >= 6) return Tile<6>(x, w, span, to);
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

// Columns [begin, end) for at most kTileRows rows.
template <class T>
void FewRows(const PackedX& x, const LinearPart& part, int64_t begin, int64_t end) {
  TileSpan span;
  span.steps = part.weight.cols / kLanes;
  RowsOfWeights<T> w;
  w.ahead = kTileCols * part.weight.stride;
  w.tail = part.weight.cols % kLanes;
  float bias[kTileCols];
  for (int64_t col = begin; col < end; col += kTileCols) {
    for (int64_t j = 0; j < kTileCols; ++j) {
      w.row[j] = static_cast<const T*>(part.weight.Row(std::min(col + j, part.weight.rows - 1)));
    }
    WidenBias(part, col, kTileCols, bias);
    TileOfRows(x.rows, x.data, w, span, OutAt(part, 0, col, bias));
  }
}

// Steps [step_begin, step_end) of weight rows [col, col + kTileCols) as a PanelOfWeights; zeros
// where there is no row.
template <class T>
void WidenPanel(const ConstMatrix& weight, int64_t col, int64_t step_begin, int64_t step_end,
                float* HWY_RESTRICT to) {
  const DF d;
  const int64_t full = std::min(step_end, weight.cols / kLanes);
  for (int64_t j = 0; j < kTileCols; ++j) {
    float* HWY_RESTRICT lane = to + j * kLanes;
    const bool exists = col + j < weight.rows;
    const T* row = static_cast<const T*>(weight.Row(exists ? col + j : 0));
    int64_t step = step_begin;
    for (; exists && step < full; ++step, lane += kTileCols * kLanes) {
      hn::Store(LoadF32(d, row + step * kLanes), d, lane);
    }
    for (; step < step_end; ++step, lane += kTileCols * kLanes) {
      const int64_t rest = exists ? weight.cols - step * kLanes : 0;
      hn::Store(LoadTailF32(row + step * kLanes, rest), d, lane);
    }
  }
}

// Columns [col_begin, col_end) for the row panels [panel_begin, panel_end): one task of the general
// path.
struct BlockTask {
  int64_t panel_begin = 0;
  int64_t panel_end = 0;
  int64_t col_begin = 0;
  int64_t col_end = 0;
  int64_t block_cols = 0;
};

template <class T>
class ManyRows {
 public:
  ManyRows(const PackedX& x, const LinearPart& part, const BlockTask& task)
      : x_(x), part_(part), task_(task), k_blocks_(CeilDiv(x.steps * kLanes, kBlockK)) {
    const int64_t rows = x.RowBegin(task.panel_end) - x.RowBegin(task.panel_begin);
    const int64_t panel_floats = CeilDiv(x.steps, k_blocks_) * kTileCols * kLanes;
    panel_stride_ = panel_floats;
    const int64_t panels = task.block_cols / kTileCols;
    weights_ = ThreadScratch().Floats(panels * panel_floats + rows * task.block_cols * kLanes +
                                      task.block_cols);
    carry_ = weights_ + panels * panel_floats;
    bias_ = carry_ + rows * task.block_cols * kLanes;
  }

  void Run() {
    for (int64_t col = task_.col_begin; col < task_.col_end; col += task_.block_cols) {
      const int64_t end = std::min(col + task_.block_cols, task_.col_end);
      WidenBias(part_, col, task_.block_cols, bias_);
      for (int64_t block = 0; block < k_blocks_; ++block) Multiply(col, end, block);
    }
  }

 private:
  int64_t StepBegin(int64_t block) const { return x_.steps * block / k_blocks_; }

  // One K block of weight rows [col, end) against all row panels.
  void Multiply(int64_t col, int64_t end, int64_t block) {
    const int64_t step_begin = StepBegin(block);
    const int64_t step_end = StepBegin(block + 1);
    const int64_t w_panels = CeilDiv(end - col, kTileCols);
    for (int64_t p = 0; p < w_panels; ++p) {
      WidenPanel<T>(part_.weight, col + p * kTileCols, step_begin, step_end,
                    weights_ + p * panel_stride_);
    }
    TileSpan span;
    span.steps = step_end - step_begin;
    span.first = block == 0;
    span.last = block + 1 == k_blocks_;
    int64_t tile = 0;
    for (int64_t xp = task_.panel_begin; xp < task_.panel_end; ++xp) {
      const int64_t row = x_.RowBegin(xp);
      const int64_t rows = x_.RowBegin(xp + 1) - row;
      const float* x = x_.Panel(xp) + step_begin * rows * kLanes;
      const int64_t local_row = row - x_.RowBegin(task_.panel_begin);
      for (int64_t p = 0; p < w_panels; ++p, ++tile) {
        PanelOfWeights w;
        w.data = weights_ + p * panel_stride_;
        w.step_bytes = kLanes * sizeof(T);
        NextRows(col, block, tile, &w);
        span.carry = carry_ + (local_row * w_panels + p * rows) * kTileCols * kLanes;
        TileOfRows(rows, x, w, span, OutAt(part_, row, col + p * kTileCols, bias_ + p * kTileCols));
      }
    }
  }

  // The two row segments of the block after this one that tile number `tile` fetches; where all are
  // fetched, its own.
  void NextRows(int64_t col, int64_t block, int64_t tile, PanelOfWeights* w) const {
    const bool same_rows = block + 1 < k_blocks_;
    const int64_t next_col = same_rows ? col : col + task_.block_cols;
    const int64_t next_step = same_rows ? StepBegin(block + 1) : 0;
    for (int64_t i = 0; i < 2; ++i) {
      const int64_t next = next_col + 2 * tile + i;
      const bool wanted = 2 * tile < task_.block_cols && next < task_.col_end;
      w->next[i] =
          wanted ? static_cast<const char*>(part_.weight.Row(next)) + next_step * w->step_bytes
                 : reinterpret_cast<const char*>(w->data);
    }
  }

  const PackedX& x_;
  const LinearPart& part_;
  const BlockTask task_;
  const int64_t k_blocks_;
  int64_t panel_stride_ = 0;
  float* weights_ = nullptr;
  float* carry_ = nullptr;
  float* bias_ = nullptr;
};

// How the columns of all parts and the rows are cut into tasks.
struct Plan {
  bool few = false;
  int64_t block_cols = 0;
  int64_t task_cols = 0;   // a multiple of block_cols
  int64_t row_blocks = 1;  // over panels
};

Plan MakePlan(const ThreadTeam& team, const PackedX& x, int64_t k,
              absl::Span<const LinearPart> parts) {
  Plan plan;
  plan.few = x.rows <= kTileRows;
  plan.block_cols = plan.few ? kTileCols : x.rows <= kFewRows ? kBlockColsFew : kBlockColsMany;
  plan.row_blocks = CeilDiv(x.rows, kBlockRows);
  int64_t cols = 0;
  for (const LinearPart& part : parts) cols += part.weight.rows;
  const int64_t by_threads = cols * plan.row_blocks / (kTasksPerThread * team.size());
  const int64_t row_work = std::max<int64_t>(1, k * CeilDiv(x.rows, plan.row_blocks));
  const int64_t least = CeilDiv(kMinTaskWork, row_work);
  plan.task_cols =
      CeilDiv(std::max<int64_t>({by_threads, least, 1}), plan.block_cols) * plan.block_cols;
  return plan;
}

template <class T>
void RunPart(const PackedX& x, const LinearPart& part, const Plan& plan, int64_t col,
             int64_t row_block) {
  BlockTask task;
  task.col_begin = col;
  task.col_end = std::min(col + plan.task_cols, part.weight.rows);
  if (plan.few) return FewRows<T>(x, part, task.col_begin, task.col_end);
  task.panel_begin = x.panels * row_block / plan.row_blocks;
  task.panel_end = x.panels * (row_block + 1) / plan.row_blocks;
  task.block_cols = plan.block_cols;
  ManyRows<T>(x, part, task).Run();
}

void RunTask(const PackedX& x, absl::Span<const LinearPart> parts, const Plan& plan, int64_t task) {
  const int64_t row_block = task % plan.row_blocks;
  int64_t block = task / plan.row_blocks;
  for (const LinearPart& part : parts) {
    const int64_t blocks = CeilDiv(part.weight.rows, plan.task_cols);
    if (block >= blocks) {
      block -= blocks;
      continue;
    }
    const int64_t col = block * plan.task_cols;
    switch (part.weight.dtype) {
      case DType::kF32:
        return RunPart<float>(x, part, plan, col, row_block);
      case DType::kF16:
        return RunPart<F16>(x, part, plan, col, row_block);
      default:
        return RunPart<BF16>(x, part, plan, col, row_block);
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

void LinearImpl(ThreadTeam* team, Scratch* scratch, const ConstMatrix& x,
                absl::Span<const LinearPart> parts) {
  PackedX packed;
  packed.rows = x.rows;
  packed.panels = CeilDiv(x.rows, kTileRows);
  packed.steps = CeilDiv(x.cols, kLanes);
  packed.data = scratch->Floats(packed.rows * packed.steps * kLanes);
  PackX(team, x, packed);
  const Plan plan = MakePlan(*team, packed, x.cols, parts);
  int64_t blocks = 0;
  for (const LinearPart& part : parts) blocks += CeilDiv(part.weight.rows, plan.task_cols);
  team->Run(blocks * plan.row_blocks, [&](int64_t task) { RunTask(packed, parts, plan, task); });
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
