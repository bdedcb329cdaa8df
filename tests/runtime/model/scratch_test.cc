#include "runtime/model/scratch.h"

#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

TEST(ScratchTest, GrowsByDoublingAtLeastAndNeverShrinks) {
  kernels::Buffer buffer;
  ASSERT_OK(GrowScratch(&kernels::CpuDevice(), 10, buffer));
  EXPECT_EQ(buffer.size_bytes(), 40u);
  ASSERT_OK(GrowScratch(&kernels::CpuDevice(), 11, buffer));
  EXPECT_EQ(buffer.size_bytes(), 80u);
  ASSERT_OK(GrowScratch(&kernels::CpuDevice(), 1, buffer));
  EXPECT_EQ(buffer.size_bytes(), 80u);
  ASSERT_OK(GrowScratch(&kernels::CpuDevice(), 100, buffer));
  EXPECT_EQ(buffer.size_bytes(), 400u);
}

TEST(ScratchTest, NothingNeedsNoMemory) {
  kernels::Buffer buffer;
  ASSERT_OK(GrowScratch(&kernels::CpuDevice(), 0, buffer));
  EXPECT_EQ(buffer.data(), nullptr);
}

TEST(ScratchTest, ColumnsOfAMatrixKeepItsStride) {
  std::vector<float> values = {0, 1, 2, 3, 4, 5};
  const kernels::Matrix columns = Columns(kernels::F32Matrix(values.data(), 2, 3), 1, 2);
  EXPECT_EQ(columns.rows, 2);
  EXPECT_EQ(columns.cols, 2);
  EXPECT_EQ(static_cast<float*>(columns.Row(1))[0], 4.0f);
}

}  // namespace
}  // namespace ccoe::model
