#include "runtime/model/counting_ops.h"

#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

TEST(CountingOpsTest, TheirDeviceCountsAndNothingCanBeComputed) {
  CountingDevice device;
  const auto ops = MakeCountingOps(&device);
  ASSERT_OK_AND_ASSIGN(const kernels::Buffer buffer, ops->device().Allocate(1000));
  EXPECT_EQ(device.counted_bytes(), 1024);
  EXPECT_OK(ops->Synchronize());
  EXPECT_DEATH(ops->AddRows({}, {}), "");
}

}  // namespace
}  // namespace ccoe::model
