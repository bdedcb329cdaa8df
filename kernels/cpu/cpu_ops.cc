// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_ops.h"

#include "absl/strings/str_cat.h"
#include "kernels/cpu/activation.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/gate.h"
#include "kernels/cpu/grouped_ffn.h"
#include "kernels/cpu/head_linear.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/moe_ffn.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/numerics_class.h"
#include "kernels/cpu/rope_kv.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/sample.h"
#include "kernels/cpu/scratch.h"
#include "runtime/base/check.h"

namespace ccoe::kernels {
namespace {

class CpuOps final : public Ops {
 public:
  explicit CpuOps(ThreadTeam* team) : team_(team) { CCOE_CHECK(team != nullptr); }

  Device& device() override { return CpuDevice(); }
  std::string NumericsClass() const override { return CpuNumericsClass(); }

  void EmbedRows(ConstMatrix table, absl::Span<const int32_t> ids, float scale,
                 Matrix out) override {
    CpuEmbedRows(team_, table, ids, scale, out);
  }
  void RmsNorm(ConstMatrix x, ConstMatrix weight, float eps, Matrix out) override {
    CpuRmsNorm(team_, x, weight, eps, out);
  }
  void Linear(ConstMatrix x, absl::Span<const LinearPart> parts) override {
    CpuLinear(team_, &scratch_, x, parts);
  }
  void HeadLinear(const HeadLinearArgs& args) override { CpuHeadLinear(team_, &scratch_, args); }
  void RopeAngles(const RopeAnglesArgs& args) override { CpuRopeAngles(team_, args); }
  void RopeAndAppendKv(const RopeAndAppendKvArgs& args) override {
    CpuRopeAndAppendKv(team_, args);
  }
  void PagedAttention(const PagedAttentionArgs& args) override {
    CpuPagedAttention(team_, &scratch_, args);
  }
  void GatedActivation(Activation activation, ConstMatrix gate, ConstMatrix up,
                       Matrix out) override {
    CpuGatedActivation(team_, activation, gate, up, out);
  }
  void AddRows(ConstMatrix x, Matrix sum) override { CpuAddRows(team_, x, sum); }
  void ScaleRows(float scale, float soft_cap, Matrix x) override {
    CpuScaleRows(team_, scale, soft_cap, x);
  }
  void ScaleRowsBySigmoid(ConstMatrix gate, Matrix x) override {
    CpuScaleRowsBySigmoid(team_, gate, x);
  }
  void ClampRows(float limit, Matrix x) override { CpuClampRows(team_, limit, x); }
  void AddRmsNorm(ConstMatrix x, ConstMatrix weight, float eps, Matrix sum) override {
    CpuAddRmsNorm(team_, x, weight, eps, sum);
  }
  absl::Status SampleRows(const SampleRowsArgs& args, absl::Span<SampledRow> out) override {
    CpuSampleRows(team_, args, out);
    return absl::OkStatus();
  }

  void TopKGate(const TopKGateArgs& args) override { CpuTopKGate(team_, args); }
  void GroupedFfn(const GroupedFfnArgs& args) override { CpuGroupedFfn(team_, &scratch_, args); }
  void CombineRows(const CombineRowsArgs& args) override { CpuCombineRows(team_, args); }
  void MoeFfn(const MoeFfnArgs& args) override { CpuMoeFfn(team_, &scratch_, args); }
  void GatherRows(ConstMatrix x, absl::Span<const int32_t> rows, Matrix out) override {
    CpuGatherRows(team_, x, rows, out);
  }
  void ScatterRows(ConstMatrix x, absl::Span<const int32_t> rows, Matrix out) override {
    CpuScatterRows(team_, x, rows, out);
  }
  absl::Status Synchronize() override { return absl::OkStatus(); }

 private:
  ThreadTeam* const team_;
  Scratch scratch_;
};

}  // namespace

absl::Status CheckCpuKvDtype(DType dtype) {
  if (dtype == DType::kF32) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat("cpu ops: KV cache dtype: expected f32, found ", DTypeName(dtype)));
}

std::unique_ptr<Ops> MakeCpuOps(ThreadTeam* team) { return std::make_unique<CpuOps>(team); }

}  // namespace ccoe::kernels
