// SPDX-License-Identifier: Apache-2.0
// Two loops over the cores for all heads: one packs their x, one multiplies pieces of (head,
// columns, rows), several of them a task where they are small. Very many rows go in batches of
// heads, which bounds the memory. In which order an element is summed: linear-inl.h.
#include "kernels/cpu/head_linear.h"

#include <algorithm>
#include <cstdint>

#include "kernels/check_shapes.h"

// The order of these matters.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/head_linear.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/linear-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace ccoe::kernels {
namespace HWY_NAMESPACE {

// Floats of packed rows that are held at a time: 16 MB. A batch of so many is work enough to hide
// the start of its loops.
constexpr int64_t kHeadBatchFloats = 4 * 1024 * 1024;

class HeadLinearRunner {
 public:
  HeadLinearRunner(ThreadTeam* team, const HeadLinearArgs& args)
      : team_(team),
        args_(args),
        shared_x_(args.x_step == 0),
        packed_(args.x.rows, args.x.cols, args.weight.dtype) {}

  void Run(Scratch* scratch) {
    const int64_t batch =
        shared_x_ ? args_.heads : std::max<int64_t>(1, kHeadBatchFloats / packed_.Floats());
    for (int64_t begin = 0; begin < args_.heads; begin += batch) {
      RunHeads(begin, std::min(batch, args_.heads - begin), scratch);
    }
  }

 private:
  void RunHeads(int64_t begin, int64_t heads, Scratch* scratch) {
    const int64_t packs = shared_x_ ? 1 : heads;
    packed_.data = scratch->Floats(packs * packed_.Floats());
    Pack(begin, packs);
    Cut(heads);
    const int64_t pieces = heads * col_blocks_ * row_blocks_;
    const int64_t work = heads * args_.x.rows * args_.weight.cols * args_.weight.rows;
    const int64_t tasks = std::clamp<int64_t>(work / kMinTaskWork, 1, std::min(pieces, Wanted()));
    team_->Run(tasks, [&](int64_t task) {
      const int64_t end = pieces * (task + 1) / tasks;
      for (int64_t piece = pieces * task / tasks; piece < end; ++piece) RunPiece(begin, piece);
    });
  }

  int64_t Wanted() const { return kTasksPerThread * team_->size(); }

  PackedX PackOf(int64_t pack) const {
    PackedX x = packed_;
    x.data += pack * packed_.Floats();
    return x;
  }

  void Pack(int64_t begin, int64_t packs) {
    const int64_t panels = packs * packed_.panels;
    const int64_t tasks =
        packs * packed_.Floats() < kMinPackedApart ? 1 : std::min(panels, Wanted());
    team_->Run(tasks, [&](int64_t task) {
      for (int64_t i = panels * task / tasks; i < panels * (task + 1) / tasks; ++i) {
        const int64_t pack = i / packed_.panels;
        ConstMatrix x = args_.x;
        x.data = static_cast<const float*>(x.data) + (begin + pack) * args_.x_step;
        PackPanel(x, /*rows=*/nullptr, PackOf(pack), i % packed_.panels);
      }
    });
  }

  // A head's product becomes pieces where heads alone are not enough tasks.
  void Cut(int64_t heads) {
    const int64_t cols = args_.weight.rows;
    row_blocks_ = std::min(packed_.panels, CeilDiv(packed_.Floats(), kBlockFloats));
    const int64_t blocks = CeilDiv(Wanted(), heads * row_blocks_);
    piece_cols_ = RoundUp(CeilDiv(cols, std::min(blocks, cols)), kTileCols);
    col_blocks_ = CeilDiv(cols, piece_cols_);
  }

  void RunPiece(int64_t begin, int64_t piece) const {
    const int64_t row_block = piece % row_blocks_;
    const int64_t col_block = piece / row_blocks_ % col_blocks_;
    const int64_t in_batch = piece / row_blocks_ / col_blocks_;
    const int64_t head = begin + in_batch;
    Block block;
    block.panel_begin = packed_.panels * row_block / row_blocks_;
    block.panel_end = packed_.panels * (row_block + 1) / row_blocks_;
    block.col_begin = col_block * piece_cols_;
    block.col_end = std::min(block.col_begin + piece_cols_, args_.weight.rows);
    block.fetch_end = block.col_end;
    MatrixProduct product;
    product.weight = args_.weight;
    product.weight.data = args_.weight.Row(head * args_.weight_step);
    product.out = static_cast<float*>(args_.out.data) + head * args_.out_step;
    product.stride = args_.out.stride;
    RunBlock(PackOf(shared_x_ ? 0 : in_batch), product, block);
  }

  ThreadTeam* const team_;
  const HeadLinearArgs& args_;
  const bool shared_x_;
  PackedX packed_;  // of one head; the others' lie behind it
  int64_t row_blocks_ = 1, col_blocks_ = 1, piece_cols_ = kTileCols;
};

void HeadLinearImpl(ThreadTeam* team, Scratch* scratch, const HeadLinearArgs& args) {
  HeadLinearRunner(team, args).Run(scratch);
}

}  // namespace HWY_NAMESPACE
}  // namespace ccoe::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ccoe::kernels {

HWY_EXPORT(HeadLinearImpl);

void CpuHeadLinear(ThreadTeam* team, Scratch* packed, const HeadLinearArgs& args) {
  CheckShapes(args);
  if (args.heads == 0 || args.x.rows == 0 || args.x.cols == 0 || args.weight.rows == 0) return;
  HWY_DYNAMIC_DISPATCH(HeadLinearImpl)(team, packed, args);
}

}  // namespace ccoe::kernels
#endif  // HWY_ONCE
