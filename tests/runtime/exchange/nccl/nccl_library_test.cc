// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/nccl/nccl_library.h"

#include <nccl.h>

#include <string>

#include "tests/testing/status_matchers.h"

namespace ccoe::exchange {
namespace {

using ::testing::HasSubstr;

TEST(NcclLibraryTest, ItsFunctionsAreTheLibrarysOrSayThatItIsMissing) {
  int version = 0;
  if (OpenNccl().ok()) {
    EXPECT_EQ(ncclGetVersion(&version), ncclSuccess);
    EXPECT_GE(version, NCCL_VERSION(2, 0, 0));
    return;
  }
  EXPECT_EQ(ncclGetVersion(&version), ncclSystemError);
  EXPECT_THAT(std::string(ncclGetErrorString(ncclSuccess)), HasSubstr("not on this machine"));
}

}  // namespace
}  // namespace ccoe::exchange
