// SPDX-License-Identifier: Apache-2.0
#include "runtime/telemetry/process_info.h"

#include <string>

#include "gtest/gtest.h"

namespace ccoe::telemetry {
namespace {

TEST(ResidentBytesTest, GrowsByWhatTheProcessTouches) {
  const int64_t before = ResidentBytes();
  EXPECT_GT(before, 1 << 20);
  const std::string touched(64 << 20, 'x');
  EXPECT_GT(ResidentBytes(), before + (32 << 20)) << touched.size();
}

}  // namespace
}  // namespace ccoe::telemetry
