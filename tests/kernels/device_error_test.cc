// SPDX-License-Identifier: Apache-2.0
#include "kernels/device_error.h"

#include "gtest/gtest.h"

namespace ccoe::kernels {
namespace {

TEST(DeviceErrorTest, TellsADeviceThatIsGoneFromAPassThatCannotBe) {
  for (const absl::Status& gone :
       {absl::InternalError(""), absl::UnavailableError(""), absl::UnknownError(""),
        absl::AbortedError(""), absl::DataLossError("")}) {
    EXPECT_TRUE(IsDeviceFailure(gone)) << gone;
  }
  for (const absl::Status& pass :
       {absl::OkStatus(), absl::InvalidArgumentError(""), absl::ResourceExhaustedError(""),
        absl::FailedPreconditionError(""), absl::UnimplementedError(""), absl::OutOfRangeError(""),
        absl::CancelledError("")}) {
    EXPECT_FALSE(IsDeviceFailure(pass)) << pass;
  }
}

}  // namespace
}  // namespace ccoe::kernels
