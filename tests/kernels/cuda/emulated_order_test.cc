// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <string>

#include "gtest/gtest.h"
#include "tests/kernels/cuda/emulation/order.h"

namespace ccoe::emulation {
namespace {

TEST(EmulatedOrderTest, IsTheOneThatThisTargetIsNamedAfter) {
  const char* asked = std::getenv("CCOE_EMULATION_ORDER");
  ASSERT_NE(asked, nullptr);
  EXPECT_EQ(CurrentOrder().kind == OrderKind::kBackward, std::string(asked) == "backward");
}

}  // namespace
}  // namespace ccoe::emulation
