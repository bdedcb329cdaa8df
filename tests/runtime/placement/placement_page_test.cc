// SPDX-License-Identifier: Apache-2.0
// docs/placement.md shows a placement; it must be one.
#include <string>

#include "gtest/gtest.h"
#include "runtime/base/file.h"
#include "runtime/placement/plan.h"
#include "tests/runtime/placement/moe_specs.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::placement {
namespace {

TEST(PlacementPageTest, ItsExampleIsAPlacementOfThirtyTwoLayersOfEightExperts) {
  ASSERT_OK_AND_ASSIGN(const std::string page, ReadFile("docs/placement.md", 1 << 20));
  const std::string open = "```textproto\n";
  const size_t begin = page.find(open) + open.size();
  const std::string example = page.substr(begin, page.find("```", begin) - begin);
  ASSERT_OK_AND_ASSIGN(const Plan plan, ParsePlan(example, "docs/placement.md"));
  EXPECT_EQ(plan.workers.size(), 2u);
  EXPECT_OK(CheckPlan(plan, MoeModel(0, 32, 8), kernels::DType::kBF16));
}

}  // namespace
}  // namespace ccoe::placement
