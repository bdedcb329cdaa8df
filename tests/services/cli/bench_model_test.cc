#include "services/cli/bench_model.h"

#include <filesystem>

#include "gtest/gtest.h"
#include "tests/testing/command_line.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

TEST(BenchModelTest, DefaultsMakeAQuarterOfABillionParameters) {
  const model::RandomModelOptions options = ToModelOptions(BenchModelFlags{}, 7);
  EXPECT_NEAR(static_cast<double>(model::ParameterCount(options)), 0.25e9, 0.02e9);
  EXPECT_EQ(options.dtype, kernels::DType::kBF16);
  EXPECT_EQ(options.seed, 7u);
}

TEST(BenchFolderTest, LivesAsLongAsItsObject) {
  BenchModelFlags flags;
  flags.folder = testing::TempPath("bench");
  {
    ASSERT_OK_AND_ASSIGN(const auto folder, BenchFolder::Create(flags));
    EXPECT_TRUE(std::filesystem::exists(flags.folder));
    EXPECT_THAT(BenchFolder::Create(flags), testing::StatusIs(absl::StatusCode::kAlreadyExists));
  }
  EXPECT_FALSE(std::filesystem::exists(flags.folder));
}

}  // namespace
}  // namespace ccoe::cli
