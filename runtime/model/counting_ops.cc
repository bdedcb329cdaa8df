#include "runtime/model/counting_ops.h"

#include <string>

#include "runtime/base/check.h"

namespace ccoe::model {
namespace {

using kernels::ConstMatrix;
using kernels::Matrix;

class CountingOps final : public kernels::Ops {
 public:
  explicit CountingOps(CountingDevice* device) : device_(device) {}

  kernels::Device& device() override { return *device_; }
  std::string NumericsClass() const override { return "counting"; }
  absl::Status Synchronize() override { return absl::OkStatus(); }

  void EmbedRows(ConstMatrix, absl::Span<const int32_t>, float, Matrix) override { Refuse(); }
  void RmsNorm(ConstMatrix, ConstMatrix, float, Matrix) override { Refuse(); }
  void Linear(ConstMatrix, absl::Span<const kernels::LinearPart>) override { Refuse(); }
  void HeadLinear(const kernels::HeadLinearArgs&) override { Refuse(); }
  void RopeAngles(const kernels::RopeAnglesArgs&) override { Refuse(); }
  void RopeAndAppendKv(const kernels::RopeAndAppendKvArgs&) override { Refuse(); }
  void PagedAttention(const kernels::PagedAttentionArgs&) override { Refuse(); }
  void GatedActivation(kernels::Activation, ConstMatrix, ConstMatrix, Matrix) override { Refuse(); }
  void AddRows(ConstMatrix, Matrix) override { Refuse(); }
  void AddRmsNorm(ConstMatrix, ConstMatrix, float, Matrix) override { Refuse(); }
  void ScaleRows(float, float, Matrix) override { Refuse(); }
  void ScaleRowsBySigmoid(ConstMatrix, Matrix) override { Refuse(); }
  void ClampRows(float, Matrix) override { Refuse(); }
  void TopKGate(const kernels::TopKGateArgs&) override { Refuse(); }
  void GroupedFfn(const kernels::GroupedFfnArgs&) override { Refuse(); }
  void CombineRows(const kernels::CombineRowsArgs&) override { Refuse(); }
  void MoeFfn(const kernels::MoeFfnArgs&) override { Refuse(); }
  absl::Status SampleRows(const kernels::SampleRowsArgs&,
                          absl::Span<kernels::SampledRow>) override {
    Refuse();
    return absl::OkStatus();
  }
  void GatherRows(ConstMatrix, absl::Span<const int32_t>, Matrix) override { Refuse(); }
  void ScatterRows(ConstMatrix, absl::Span<const int32_t>, Matrix) override { Refuse(); }

 private:
  static void Refuse() { CCOE_CHECK(false); }  // there is no memory to work on

  CountingDevice* const device_;
};

}  // namespace

std::unique_ptr<kernels::Ops> MakeCountingOps(CountingDevice* device) {
  return std::make_unique<CountingOps>(device);
}

}  // namespace ccoe::model
