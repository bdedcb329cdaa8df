// SPDX-License-Identifier: Apache-2.0
#include "runtime/base/status_macros.h"

#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe {
namespace {

absl::StatusOr<int> Half(int x) {
  if (x % 2 != 0) return absl::InvalidArgumentError("odd");
  return x / 2;
}

absl::StatusOr<int> Quarter(int x) {
  CCOE_ASSIGN_OR_RETURN(const int half, Half(x));
  CCOE_ASSIGN_OR_RETURN(const int quarter, Half(half));
  return quarter;
}

TEST(StatusMacrosTest, PassTheFirstErrorUp) {
  EXPECT_EQ(*Quarter(8), 2);
  EXPECT_THAT(Quarter(6), testing::StatusIs(absl::StatusCode::kInvalidArgument, "odd"));
}

TEST(AnnotateTest, PutsTheContextBeforeTheMessageAndKeepsTheCode) {
  EXPECT_THAT(Annotate(absl::NotFoundError("gone"), "tensor x"),
              testing::StatusIs(absl::StatusCode::kNotFound, "tensor x: gone"));
  EXPECT_OK(Annotate(absl::OkStatus(), "tensor x"));
}

}  // namespace
}  // namespace ccoe
