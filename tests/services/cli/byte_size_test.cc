#include "services/cli/byte_size.h"

#include <string>

#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

TEST(ByteSizeTest, ReadsUnitsOf1000AndOf1024) {
  EXPECT_EQ(ParseByteSize("4096").value(), 4096);
  EXPECT_EQ(ParseByteSize("0").value(), 0);
  EXPECT_EQ(ParseByteSize("12GiB").value(), int64_t{12} << 30);
  EXPECT_EQ(ParseByteSize("1.5 GB").value(), 1'500'000'000);
  EXPECT_EQ(ParseByteSize("800MB").value(), 800'000'000);
  EXPECT_EQ(ParseByteSize("2KiB").value(), 2048);
  EXPECT_EQ(ParseByteSize("7B").value(), 7);
}

TEST(ByteSizeTest, RefusesWhatIsNoSize) {
  for (const char* text : {"", "GiB", "-1", "12XB", "1e3", "1.2.3GB", "9999999999TiB", "12 Gi B"}) {
    EXPECT_THAT(ParseByteSize(text), StatusIs(absl::StatusCode::kInvalidArgument,
                                              HasSubstr("found \"" + std::string(text) + "\"")))
        << text;
  }
}

TEST(ByteSizeTest, PrintsThreeDigits) {
  EXPECT_EQ(ByteSizeText(999), "999 B");
  EXPECT_EQ(ByteSizeText(491520), "492 kB");
  EXPECT_EQ(ByteSizeText(12'900'000), "12.9 MB");
  EXPECT_EQ(ByteSizeText(int64_t{12} << 30), "12.9 GB");
  EXPECT_EQ(ByteSizeText(2'500'000'000'000), "2.5 TB");
}

}  // namespace
}  // namespace ccoe::cli
