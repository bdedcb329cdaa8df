// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/kernel_list.h"

#include <cmath>
#include <set>
#include <string>

#include "kernels/cuda/rows.h"
#include "kernels/cuda/stream.h"
#include "tests/kernels/cuda/cuda_under_test.h"
#include "tests/kernels/test_tensors.h"

namespace ccoe::kernels {
namespace {

std::set<std::string> Names() {
  std::set<std::string> names;
  for (const KernelEntry& entry : ListedKernels()) names.insert(KernelName(entry));
  return names;
}

TEST(KernelListTest, KernelsOfEveryFileAreListedByNameAndOnce) {
  const std::set<std::string> names = Names();
  EXPECT_EQ(names.size(), ListedKernels().size());
  for (const char* name :
       {"GateKernel", "SampleKernel", "SortPairsKernel", "RmsNormKernel", "CombineChunksKernel",
        "GeneralKernel<true>", "AddSegmentsKernel", "SkinnyKernel<kGated, 2, true>",
        "TileKernel<kDown, 64, false, false>", "TileKernel<kPlain, 128, true, true>"}) {
    EXPECT_EQ(names.count(name), 1u) << name;
  }
}

class KernelListOnDeviceTest : public CudaTest {};

// The first run of a key is a plain one, but its second may launch what the first did not.
TEST_F(KernelListOnDeviceTest, AKernelMayBeLaunchedForTheFirstTimeWithinACapture) {
  ASSERT_OK_AND_ASSIGN(const auto stream, Stream::Create({}));
  ASSERT_OK_AND_ASSIGN(const auto ops, MakeCudaOps(CudaDeviceUnderTest(), {}));
  const DeviceMatrix x(ops.get(), RandomDense(2, 64, DType::kF32, 1), DType::kF32);
  const DeviceMatrix rounded(ops.get(), 2, 64, DType::kBF16);
  RowOpParams scale;
  ClearParams(&scale);
  scale.op = RowOp::kScale;
  scale.scalar = 2.0f;
  SetView(x.view(), &scale.out);
  RoundRowsParams round;
  ClearParams(&round);
  SetView(x.view(), &round.x);
  round.out = rounded.view().data;
  round.padded = 64;
  bool first = true;
  for (int step = 0; step < 2; ++step) {
    stream->RunCaptured(1, [&] {
      if (first) return CudaRowOp(stream.get(), scale);
      CudaRoundRows(stream.get(), round);
    });
    first = false;
  }
  EXPECT_OK(stream->Synchronize());
  EXPECT_EQ(stream->graphs_launched(), 1);
  // The first step doubled x, which was exact in f32.
  const double doubled = x.Download().at(1, 5);
  EXPECT_NEAR(rounded.Download().at(1, 5), doubled, std::abs(doubled) / 256);
}

}  // namespace
}  // namespace ccoe::kernels
