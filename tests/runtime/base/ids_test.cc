// SPDX-License-Identifier: Apache-2.0
#include "runtime/base/ids.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

TEST(ExpertRefTest, ReadsBackWhatItPrints) {
  for (const std::string text : {"math", "math@3", "a.b-c_D9@12"}) {
    ASSERT_OK_AND_ASSIGN(const ExpertRef ref, ExpertRef::Parse(text));
    EXPECT_EQ(ref.ToString(), text);
  }
}

TEST(ExpertRefTest, RefusesNamesAndVersionsThatCannotBe) {
  for (const std::string text :
       {"", "@1", "a b", "math@", "math@0", "math@-1", "math@x", "math@1@2", "../etc"}) {
    EXPECT_THAT(ExpertRef::Parse(text),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected")))
        << text;
  }
  EXPECT_THAT(ExpertRef::Parse(std::string(65, 'a')), StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace ccoe
