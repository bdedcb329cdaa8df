#include "services/common/device_report.h"

#include "gtest/gtest.h"
#include "kernels/serving_thread.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::services {
namespace {

TEST(DeviceReportTest, MemoryThatIsNotPlannedIsNotReported) {
  testing::TaggedDevice device;
  v1::WorkerLoad load;
  ReportDevice(device, 0, &load);
  EXPECT_EQ(load.device(), "");
}

TEST(DeviceReportTest, SaysWhatIsPlannedAndFreeAndWhetherThePlanHeld) {
  testing::TaggedDevice device(/*capacity_bytes=*/1000);
  v1::WorkerLoad load;
  ReportDevice(device, 700, &load);
  EXPECT_EQ(load.device(), "tagged:0");
  EXPECT_EQ(load.device_planned_bytes(), 700);
  EXPECT_EQ(load.device_free_bytes(), 1000);
  EXPECT_EQ(load.device_serving_allocations(), 0);
  {
    kernels::ServingThread serving;
    kernels::NoteAllocation();
  }
  ReportDevice(device, 700, &load);
  EXPECT_EQ(load.device_serving_allocations(), 1);
}

}  // namespace
}  // namespace ccoe::services
