// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/moe_ffn.h"

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cuda/cuda_ops.h"
#include "tests/kernels/cuda/cuda_under_test.h"
#include "tests/kernels/test_tensors.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::kernels {
namespace {

constexpr int64_t kHidden = 128, kIntermediate = 64, kExperts = 6, kTopK = 2;

// A gate and experts of bf16, and rows whose choice changes from step to step.
class CudaMoeFfnTest : public CudaTest {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
    if (IsSkipped()) return;
    CudaOptions options;
    options.math = DType::kBF16;
    ASSERT_OK_AND_ASSIGN(ops_, MakeCudaOps(CudaDeviceUnderTest(), options));
    for (uint32_t e = 0; e < kExperts; ++e) {
      experts_.push_back({Weight(kIntermediate, kHidden, 3 * e + 1),
                          Weight(kIntermediate, kHidden, 3 * e + 2),
                          Weight(kHidden, kIntermediate, 3 * e + 3)});
    }
  }

  ConstMatrix Weight(int64_t rows, int64_t cols, uint32_t seed) {
    weights_.push_back(std::make_unique<DeviceMatrix>(
        ops_.get(), RandomDense(rows, cols, DType::kBF16, seed), DType::kBF16));
    return weights_.back()->view();
  }

  // Gate and experts, as a layer of a step calls them.
  struct Step {
    Step(Ops* ops, int64_t rows)
        : x(ops, rows, kHidden),
          logits(ops, rows, kExperts),
          chosen(ops, rows, kTopK),
          gate_weights(ops, rows, kTopK),
          contributions(ops, rows * kTopK, kHidden),
          out(ops, rows, kHidden) {}

    DeviceMatrix x, logits, chosen, gate_weights, contributions, out;
  };
  void Run(const Step& step) {
    TopKGateArgs gate;
    gate.logits = step.logits.view();
    gate.form.top_k = kTopK;
    gate.experts = static_cast<int32_t*>(step.chosen.view().data);
    gate.weights = static_cast<float*>(step.gate_weights.view().data);
    ops_->TopKGate(gate);
    MoeFfnArgs args;
    args.x = step.x.view();
    args.experts = experts_;
    args.chosen = gate.experts;
    args.weights = gate.weights;
    args.top_k = kTopK;
    args.contributions = step.contributions.view();
    args.out = step.out.view();
    ops_->MoeFfn(args);
  }

  std::unique_ptr<Ops> ops_;
  std::vector<std::unique_ptr<DeviceMatrix>> weights_;
  std::vector<ExpertMatrices> experts_;
};

TEST_F(CudaMoeFfnTest, AReplayedStepFollowsTheChoiceOfItsOwnRows) {
  for (const int64_t rows : {1, 12, 60}) {
    Step captured(ops_.get(), rows), plain(ops_.get(), rows);
    for (uint32_t i = 0; i < 6; ++i) {
      for (Step* step : {&captured, &plain}) {
        step->x.Upload(RandomDense(rows, kHidden, DType::kF32, 100 + i));
        step->logits.Upload(RandomDense(rows, kExperts, DType::kF32, 200 + i));
      }
      ops_->RunCaptured(static_cast<uint64_t>(rows), [&] { Run(captured); });
      Run(plain);
      const reference::Dense found = captured.out.Download();
      EXPECT_NE(found.at(0, 0), 0.0);
      EXPECT_EQ(FirstBitDifference(found, plain.out.Download()), "") << rows << ", step " << i;
    }
  }
}

TEST_F(CudaMoeFfnTest, ARowHasTheSameBitsWhicheverKernelsItsNumberOfRowsChooses) {
  constexpr int64_t kRows = 700;
  const reference::Dense x = RandomDense(kRows, kHidden, DType::kF32, 7);
  const reference::Dense logits = RandomDense(kRows, kExperts, DType::kF32, 8);
  Step whole(ops_.get(), kRows);
  whole.x.Upload(x);
  whole.logits.Upload(logits);
  Run(whole);
  const reference::Dense all = whole.out.Download();
  for (const int64_t rows : {1, 8, 9, 24, 48, 96, 200}) {
    Step part(ops_.get(), rows);
    part.x.Upload(Rows(x, 3, rows));
    part.logits.Upload(Rows(logits, 3, rows));
    Run(part);
    EXPECT_EQ(FirstBitDifference(part.out.Download(), Rows(all, 3, rows)), "") << rows;
  }
}

}  // namespace
}  // namespace ccoe::kernels
