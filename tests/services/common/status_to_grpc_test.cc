// SPDX-License-Identifier: Apache-2.0
#include "services/common/status_to_grpc.h"

#include <string>

#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::IsOk;
using ::ccoe::testing::StatusIs;

TEST(StatusToGrpcTest, KeepsEveryCodeAndMessageBothWays) {
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "expert \"law\"");
    const grpc::Status there = ToGrpc(status);
    EXPECT_EQ(static_cast<int>(there.error_code()), code);
    EXPECT_EQ(FromGrpc(there), status);
  }
  EXPECT_TRUE(ToGrpc(absl::OkStatus()).ok());
  EXPECT_THAT(FromGrpc(grpc::Status::OK), IsOk());
}

TEST(StatusToGrpcTest, CallsAForeignCodeUnknown) {
  const grpc::Status foreign(static_cast<grpc::StatusCode>(99), "x");
  EXPECT_THAT(FromGrpc(foreign), StatusIs(absl::StatusCode::kUnknown));
}

TEST(StatusToGrpcTest, CutsALongMessageAtTheEndOfACharacter) {
  // 1023 bytes, then a character of three bytes across the limit.
  const std::string message = std::string(1023, 'a') + "\xE2\x82\xAC" + "b";
  EXPECT_EQ(ToGrpc(absl::InternalError(message)).error_message(), std::string(1023, 'a'));
  const std::string fits = std::string(1021, 'a') + "\xE2\x82\xAC";
  EXPECT_EQ(ToGrpc(absl::InternalError(fits + "tail")).error_message(), fits);
  EXPECT_EQ(ToGrpc(absl::InternalError(fits)).error_message(), fits);
}

TEST(StatusToGrpcTest, CutsAMessageOfContinuationBytesToNothing) {
  EXPECT_EQ(ToGrpc(absl::InternalError(std::string(4000, '\x80'))).error_message(), "");
}

TEST(StatusToGrpcTest, CarriesARetryHintOnErrorsAlone) {
  const absl::Status full =
      WithRetryAfter(absl::ResourceExhaustedError("queue full"), absl::Milliseconds(250));
  EXPECT_EQ(RetryAfter(full), absl::Milliseconds(250));
  EXPECT_EQ(RetryAfter(absl::ResourceExhaustedError("queue full")), std::nullopt);
  EXPECT_THAT(WithRetryAfter(absl::OkStatus(), absl::Seconds(1)), IsOk());
}

TEST(StatusToGrpcTest, BoundsTheRetryHint) {
  const absl::Status error = absl::UnavailableError("x");
  EXPECT_EQ(RetryAfter(WithRetryAfter(error, absl::ZeroDuration())), absl::Milliseconds(1));
  EXPECT_EQ(RetryAfter(WithRetryAfter(error, absl::InfiniteDuration())), absl::Hours(1));
}

}  // namespace
}  // namespace ccoe::services
