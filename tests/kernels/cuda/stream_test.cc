// SPDX-License-Identifier: Apache-2.0
// kernels/cuda/stream.h, as it is used: through the ops.
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cuda/cuda_ops.h"
#include "tests/kernels/cuda/cuda_under_test.h"
#include "tests/kernels/test_tensors.h"

namespace ccoe::kernels {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

class StreamTest : public CudaTest {};

TEST_F(StreamTest, HostArraysMayGoAsSoonAsTheCallReturnsHoweverOftenTheRingTurns) {
  CudaOptions options;
  options.host_ring_bytes = 4096;
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Ops> ops, MakeCudaOps(CudaDeviceUnderTest(), options));
  const reference::Dense x = RandomDense(64, 8, DType::kF32, 1);
  DeviceMatrix dx(ops.get(), x, DType::kF32);
  std::vector<DeviceMatrix> outs;
  for (int i = 0; i < 300; ++i) {
    outs.emplace_back(ops.get(), 5, 8);
    std::vector<int32_t> rows = {i % 64, (i + 7) % 64, (3 * i) % 64, 0, (i + 63) % 64};
    ops->GatherRows(dx.view(), rows, outs.back().view());
    rows.assign(5, 63);
  }
  for (int i = 0; i < 300; ++i) {
    const reference::Dense found = outs[i].Download();
    for (int64_t c = 0; c < 8; ++c) {
      EXPECT_EQ(found.at(0, c), x.at(i % 64, c)) << i;
      EXPECT_EQ(found.at(2, c), x.at(3 * i % 64, c)) << i;
    }
  }
}

TEST_F(StreamTest, AnErrorSticksUntilSynchronizeAndTheOpsWorkAgain) {
  CudaOptions options;
  options.host_ring_bytes = 1024;
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Ops> ops, MakeCudaOps(CudaDeviceUnderTest(), options));
  DeviceMatrix x(ops.get(), RandomDense(4, 8, DType::kF32, 1), DType::kF32);
  DeviceMatrix out(ops.get(), 1000, 8), one(ops.get(), 1, 8);
  ops->GatherRows(x.view(), std::vector<int32_t>(1000, 1), out.view());
  ops->GatherRows(x.view(), std::vector<int32_t>{2}, one.view());
  EXPECT_THAT(ops->Synchronize(),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("host_ring_bytes")));
  EXPECT_EQ(one.Download().at(0, 0), 0.0);
  ops->GatherRows(x.view(), std::vector<int32_t>{2}, one.view());
  EXPECT_NE(one.Download().at(0, 0), 0.0);
}

}  // namespace
}  // namespace ccoe::kernels
