// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/dynamic/dynamic_library.h"

#include <cmath>

#include "tests/testing/status_matchers.h"

namespace ccoe::kernels {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

// What stands for a function of the library: each is looked up once.
double Floor(double x) { return -x; }
double OfNothing(double x) { return -x; }

TEST(DynamicLibraryTest, FunctionsOfALibraryThatIsThereAreCalled) {
  const DynamicLibrary library("the C library's math", "libm.so.6");
  ASSERT_OK(library.status());
  EXPECT_NE(library.Find("floor"), nullptr);
  EXPECT_EQ((CallIn<&Floor>(library, "floor", 0.0, 2.5)), 2.0);
}

TEST(DynamicLibraryTest, AMissingLibraryIsNamedAndItsFunctionsGiveWhatWasSaid) {
  const DynamicLibrary library("Nothing", "libccoe_nothing.so.7");
  EXPECT_THAT(library.status(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                         AllOf(HasSubstr("Nothing: libccoe_nothing.so.7"),
                                               HasSubstr("LD_LIBRARY_PATH"))));
  EXPECT_EQ(library.Find("floor"), nullptr);
  EXPECT_EQ((CallIn<&OfNothing>(library, "floor", 5.0, 2.5)), 5.0);
}

TEST(DynamicLibraryTest, AFunctionThatTheLibraryHasNotIsMissing) {
  const DynamicLibrary library("the C library's math", "libm.so.6");
  EXPECT_EQ(library.Find("ccoe_no_such_function"), nullptr);
}

TEST(DynamicLibraryTest, ALibraryWithoutAFunctionThatIsNeededIsRefusedByItsName) {
  const DynamicLibrary library("the C library's math", "libm.so.6",
                               {"floor", "ccoe_no_such_function"});
  EXPECT_THAT(library.status(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                         AllOf(HasSubstr("libm.so.6 has no ccoe_no_such_function"),
                                               HasSubstr("another version"))));
  EXPECT_EQ(library.Find("floor"), nullptr);
}

}  // namespace
}  // namespace ccoe::kernels
