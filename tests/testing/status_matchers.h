// SPDX-License-Identifier: Apache-2.0
// GoogleTest matchers for absl::Status and StatusOr: EXPECT_THAT(f(), IsOk()), StatusIs(code,
// HasSubstr("...")).
#ifndef CCOE_TESTS_TESTING_STATUS_MATCHERS_H_
#define CCOE_TESTS_TESTING_STATUS_MATCHERS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ccoe::testing {

inline const absl::Status& StatusOf(const absl::Status& status) { return status; }
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

MATCHER(IsOk, negation ? "is an error" : "is OK") {
  *result_listener << StatusOf(arg).ToString();
  return StatusOf(arg).ok();
}

MATCHER_P(StatusIs, code, "has code " + absl::StatusCodeToString(code)) {
  *result_listener << StatusOf(arg).ToString();
  return StatusOf(arg).code() == code;
}

MATCHER_P2(StatusIs, code, message,
           "has code " + absl::StatusCodeToString(code) + " and a message that matches") {
  *result_listener << StatusOf(arg).ToString();
  return StatusOf(arg).code() == code &&
         ::testing::Matches(message)(std::string(StatusOf(arg).message()));
}

}  // namespace ccoe::testing

// ASSERT_OK_AND_ASSIGN(auto x, F()): the value, or the test ends with the status printed.
#define CCOE_TEST_CONCAT_INNER_(a, b) a##b
#define CCOE_TEST_CONCAT_(a, b) CCOE_TEST_CONCAT_INNER_(a, b)
#define ASSERT_OK_AND_ASSIGN(lhs, expr) \
  ASSERT_OK_AND_ASSIGN_IMPL_(CCOE_TEST_CONCAT_(ccoe_result_, __LINE__), lhs, expr)
#define ASSERT_OK_AND_ASSIGN_IMPL_(result, lhs, expr) \
  auto result = (expr);                               \
  ASSERT_TRUE(result.ok()) << result.status();        \
  lhs = *std::move(result)
#define ASSERT_OK(expr) ASSERT_THAT((expr), ::ccoe::testing::IsOk())
#define EXPECT_OK(expr) EXPECT_THAT((expr), ::ccoe::testing::IsOk())

#endif  // CCOE_TESTS_TESTING_STATUS_MATCHERS_H_
