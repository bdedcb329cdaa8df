// SPDX-License-Identifier: Apache-2.0
// Two loops over the cores, whatever the number of experts: gate, up and activation for tasks of
// (group, rows, columns), then down; very many pairs go in batches, which bounds the memory. The
// gather is done while packing, the activated rows are packed for `down` by the task that made
// them, the scatter and the weight come with the last sum. An element's bits are those of Linear
// and GatedActivation: see linear-inl.h.
#include "kernels/cpu/grouped_ffn.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/check_shapes.h"
#include "kernels/cpu/activation.h"

// The order of these matters.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/grouped_ffn.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/linear-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace ccoe::kernels {
namespace HWY_NAMESPACE {

// Columns of the activated rows are cut at whole units of `down`'s K, so that each is packed once.
constexpr int64_t kStripUnit = std::max(kUnit, kTileCols);
// Floats of gate (and of up) that a task holds before it activates them: with a block of x in L2.
constexpr int64_t kStripFloats = 16 * 1024;
// Floats of packed rows, inputs and activated ones, that are held at a time: 16 MB. A batch of so
// many is work enough to hide the start of its loops.
constexpr int64_t kBatchFloats = 4 * 1024 * 1024;

// One group's rows, packed: what gate and up read (the same memory, where they want the same order)
// and what down reads. All are cut into the same panels.
struct PackedGroup {
  const ExpertGroup* group = nullptr;
  PackedX gate_x, up_x, activated;

  bool one_x() const { return gate_x.paired == up_x.paired; }
};

struct GroupTask {
  const PackedGroup* packed = nullptr;
  Block block;
};

class GroupedFfnRunner {
 public:
  GroupedFfnRunner(ThreadTeam* team, const GroupedFfnArgs& args)
      : team_(team), args_(args), activate_(CpuActivateRow()) {}

  // `batch` are some of the groups, or parts of them.
  void Run(absl::Span<const ExpertGroup> batch, Scratch* scratch) {
    if (batch.empty()) return;
    Lay(batch, scratch);
    const ExpertGroup& shape = batch[0];
    Pack();
    RunTasks(Cut(shape.gate.cols, shape.gate.rows, /*matrices=*/2, kStripUnit),
             [this](const GroupTask& task) { RunGateUp(task); });
    RunTasks(Cut(shape.down.cols, shape.down.rows, /*matrices=*/1, kTileCols),
             [this](const GroupTask& task) { RunDown(task); });
  }

 private:
  // Gives each group its place in the scratch.
  void Lay(absl::Span<const ExpertGroup> batch, Scratch* scratch) {
    groups_.clear();
    int64_t floats = 0;
    for (const ExpertGroup& group : batch) {
      PackedGroup& g = groups_.emplace_back();
      g.group = &group;
      g.gate_x = PackedX(group.pair_count, group.gate.cols, group.gate.dtype);
      g.up_x = PackedX(group.pair_count, group.up.cols, group.up.dtype);
      g.activated = PackedX(group.pair_count, group.down.cols, group.down.dtype);
      floats += (g.one_x() ? 1 : 2) * g.gate_x.Floats() + g.activated.Floats();
    }
    float* next = scratch->Floats(floats);
    for (PackedGroup& g : groups_) {
      g.gate_x.data = g.up_x.data = next;
      next += g.gate_x.Floats();
      if (!g.one_x()) {
        g.up_x.data = next;
        next += g.up_x.Floats();
      }
      g.activated.data = next;
      next += g.activated.Floats();
    }
  }

  const int32_t* XRows(const PackedGroup& g) const {
    return args_.x_rows.data() + g.group->pair_begin;
  }

  // Gathers and packs x.
  void Pack() {
    std::vector<GroupTask> panels;
    int64_t rows = 0;
    for (const PackedGroup& g : groups_) {
      rows += g.gate_x.rows;
      for (int64_t panel = 0; panel < g.gate_x.panels; ++panel) {
        panels.push_back({&g, {panel, panel + 1, 0, 0, 0}});
      }
    }
    const int64_t count = static_cast<int64_t>(panels.size());
    const int64_t tasks = rows * args_.x.cols < kMinPackedApart
                              ? 1
                              : std::min<int64_t>(count, kTasksPerThread * team_->size());
    team_->Run(tasks, [&](int64_t task) {
      for (int64_t i = count * task / tasks; i < count * (task + 1) / tasks; ++i) {
        const PackedGroup& g = *panels[i].packed;
        const int64_t panel = panels[i].block.panel_begin;
        PackPanel(args_.x, XRows(g), g.gate_x, panel);
        if (!g.one_x()) PackPanel(args_.x, XRows(g), g.up_x, panel);
      }
    });
  }

  // Cuts products of all groups, of depth `k` and `cols` columns in `matrices` matrices of a group,
  // into tasks of about the same work.
  std::vector<GroupTask> Cut(int64_t k, int64_t cols, int64_t matrices, int64_t col_unit) const {
    int64_t pairs = 0;
    for (const PackedGroup& g : groups_) pairs += g.gate_x.rows;
    const int64_t target =
        std::max(kMinTaskWork, pairs * k * cols * matrices / (kTasksPerThread * team_->size()));
    std::vector<GroupTask> tasks;
    for (const PackedGroup& g : groups_) {
      const int64_t panels = g.gate_x.panels;
      const int64_t row_blocks = std::min(panels, CeilDiv(g.gate_x.rows * k, kBlockFloats));
      const int64_t column_work = CeilDiv(g.gate_x.rows, row_blocks) * k * matrices;
      const int64_t task_cols =
          CeilDiv(std::max<int64_t>(1, target / column_work), col_unit) * col_unit;
      for (int64_t col = 0; col < cols; col += task_cols) {
        const int64_t col_end = std::min(cols, col + task_cols);
        for (int64_t i = 0; i < row_blocks; ++i) {
          tasks.push_back(
              {&g,
               {panels * i / row_blocks, panels * (i + 1) / row_blocks, col, col_end, col_end}});
        }
      }
    }
    return tasks;
  }

  template <class Body>
  void RunTasks(const std::vector<GroupTask>& tasks, const Body& body) {
    team_->Run(static_cast<int64_t>(tasks.size()), [&](int64_t task) { body(tasks[task]); });
  }

  void RunGateUp(const GroupTask& task) const {
    const PackedGroup& g = *task.packed;
    const int64_t row_begin = g.gate_x.RowBegin(task.block.panel_begin);
    const int64_t rows = g.gate_x.RowBegin(task.block.panel_end) - row_begin;
    const int64_t task_units = CeilDiv(task.block.col_end - task.block.col_begin, kStripUnit);
    const int64_t strip =
        kStripUnit * std::clamp<int64_t>(kStripFloats / (rows * kStripUnit), 1, task_units);
    float* gate = ThreadScratch().Floats(2 * rows * strip);
    float* up = gate + rows * strip;
    MatrixProduct product;
    product.stride = strip;
    product.row_begin = row_begin;
    Block block = task.block;
    for (int64_t col = task.block.col_begin; col < task.block.col_end; col += strip) {
      block.col_begin = product.col_begin = col;
      block.col_end = std::min(col + strip, task.block.col_end);
      product.weight = g.group->gate;
      product.out = gate;
      RunBlock(g.gate_x, product, block);
      product.weight = g.group->up;
      product.out = up;
      RunBlock(g.up_x, product, block);
      Activate(g, block, strip, gate, up);
    }
  }

  // Activates a strip in place and packs it for `down`.
  void Activate(const PackedGroup& g, const Block& block, int64_t stride, float* gate,
                const float* up) const {
    const int64_t cols = block.col_end - block.col_begin;
    for (int64_t panel = block.panel_begin; panel < block.panel_end; ++panel) {
      const int64_t rows = g.activated.RowBegin(panel + 1) - g.activated.RowBegin(panel);
      for (int64_t r = 0; r < rows; ++r, gate += stride, up += stride) {
        activate_(args_.activation, gate, up, cols, gate);
        PackRow(gate, cols, g.activated, panel, r, block.col_begin / kUnit);
      }
    }
  }

  void RunDown(const GroupTask& task) const {
    const PackedGroup& g = *task.packed;
    MatrixProduct product;
    product.weight = g.group->down;
    product.out = static_cast<float*>(args_.out.data);
    product.stride = args_.out.stride;
    product.rows = args_.out_rows.data() + g.group->pair_begin;
    product.scales = args_.weights.data() + g.group->pair_begin;
    RunBlock(g.activated, product, task.block);
  }

  ThreadTeam* const team_;
  const GroupedFfnArgs& args_;
  const ActivateRowFunction activate_;
  std::vector<PackedGroup> groups_;
};

void GroupedFfnImpl(ThreadTeam* team, Scratch* scratch, const GroupedFfnArgs& args) {
  GroupedFfnRunner runner(team, args);
  std::vector<ExpertGroup> batch;
  int64_t room = 0;
  for (ExpertGroup group : args.groups) {
    const int64_t end = group.pair_begin + group.pair_count;
    for (; group.pair_begin < end; group.pair_begin += group.pair_count) {
      if (room == 0) {
        runner.Run(batch, scratch);
        batch.clear();
        room = std::max<int64_t>(1, kBatchFloats / (group.gate.cols + group.gate.rows));
      }
      group.pair_count = std::min(room, end - group.pair_begin);
      room -= group.pair_count;
      batch.push_back(group);
    }
  }
  runner.Run(batch, scratch);
}

}  // namespace HWY_NAMESPACE
}  // namespace ccoe::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ccoe::kernels {
HWY_EXPORT(GroupedFfnImpl);

void CpuGroupedFfn(ThreadTeam* team, Scratch* packed, const GroupedFfnArgs& args) {
  CheckShapes(args);
  HWY_DYNAMIC_DISPATCH(GroupedFfnImpl)(team, packed, args);
}

}  // namespace ccoe::kernels
#endif  // HWY_ONCE
