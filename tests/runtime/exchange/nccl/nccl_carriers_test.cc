// SPDX-License-Identifier: Apache-2.0
// What a process without a GPU, or without CUDA, is told; and what needs no second rank.
#include "runtime/exchange/nccl/nccl_carriers.h"

#include <string>

#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::exchange {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::AnyOf;
using ::testing::HasSubstr;

TEST(NcclCarriersTest, ADeviceThatIsNotThereIsRefused) {
  NcclOptions options;
  options.device = 1000;
  const absl::Status status = MakeNcclCarriers(options).status();
  EXPECT_THAT(status.code(),
              AnyOf(absl::StatusCode::kUnimplemented, absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(std::string(status.message()),
              AnyOf(HasSubstr("--config=cuda"), HasSubstr("CUDA device 1000")));
}

TEST(NcclCarriersTest, IdsAreFreshAndWrongOnesAreRefused) {
  const auto carriers = MakeNcclCarriers({});
  if (!carriers.ok()) GTEST_SKIP() << carriers.status().message();
  EXPECT_THAT((*carriers)->Version(), ::testing::StartsWith("nccl 2."));
  ASSERT_OK_AND_ASSIGN(const std::string first, (*carriers)->MakeId());
  ASSERT_OK_AND_ASSIGN(const std::string second, (*carriers)->MakeId());
  EXPECT_NE(first, second);
  EXPECT_THAT(
      (*carriers)->Connect("x", true, absl::Seconds(1), [](const RowCarrier::Note&) {}).status(),
      StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace ccoe::exchange
