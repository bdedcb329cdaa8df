// SPDX-License-Identifier: Apache-2.0
// Numbers that must lie close to a reference.
#ifndef CCOE_TESTS_TESTING_EXPECT_CLOSE_H_
#define CCOE_TESTS_TESTING_EXPECT_CLOSE_H_

#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace ccoe::testing {

// Each element within `tolerance`, absolute; a failure names the worst one. NaN is never close.
template <typename Reference>
void ExpectClose(const std::vector<float>& found, const std::vector<Reference>& expected,
                 double tolerance, const std::string& what) {
  ASSERT_EQ(found.size(), expected.size()) << what;
  const auto distance = [&](size_t i) {
    const double d = std::fabs(static_cast<double>(found[i]) - static_cast<double>(expected[i]));
    return std::isnan(d) ? HUGE_VAL : d;
  };
  size_t worst = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    if (distance(i) > distance(worst)) worst = i;
  }
  if (found.empty()) return;
  EXPECT_LE(distance(worst), tolerance) << what << ": element " << worst << ": expected "
                                        << expected[worst] << ", found " << found[worst];
}

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_EXPECT_CLOSE_H_
