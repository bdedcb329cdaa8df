// SPDX-License-Identifier: Apache-2.0
#include "services/cli/bench/model.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "absl/time/clock.h"
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

// A process that makes the folder and dies of `number`.
void DieWithAFolder(const BenchModelFlags& flags, int number) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const auto folder = BenchFolder::Create(flags);
    if (!folder.ok() || mkdir((*folder)->Path("model").c_str(), 0700) != 0) _exit(1);
    raise(number);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status)) << status;
  ASSERT_EQ(WTERMSIG(status), number);
}

TEST(BenchFolderTest, GoesWithItsProcessHoweverThatEnds) {
  for (const int number : {SIGINT, SIGTERM, SIGKILL}) {
    BenchModelFlags flags;
    flags.folder = testing::TempPath("killed");
    ASSERT_NO_FATAL_FAILURE(DieWithAFolder(flags, number));
    const absl::Time until = absl::Now() + absl::Minutes(1);
    while (std::filesystem::exists(flags.folder) && absl::Now() < until)
      absl::SleepFor(absl::Milliseconds(10));
    EXPECT_FALSE(std::filesystem::exists(flags.folder)) << number;
  }
}

TEST(BenchSamplesTest, TheMedianIsTheMiddleValue) {
  EXPECT_EQ(Median({3, 1, 2}), 2);
  EXPECT_EQ(Median({4, 1, 3, 2}), 3);
  EXPECT_EQ(Median({}), 0);
}

TEST(BenchSamplesTest, MeasuresDecodeAndPrefillOfTheBase) {
  services::OfflineOptions options;
  options.model_folder = "tests/golden/models/llama-gqa";
  options.threads = 1;
  ASSERT_OK_AND_ASSIGN(const auto offline, services::OfflineEngine::Create(options));
  ASSERT_OK_AND_ASSIGN(const auto throughput, MeasureBase(*offline, 2, 8, 4));
  EXPECT_GT(throughput.decode_tokens_per_second, 0);
  EXPECT_GT(throughput.prefill_tokens_per_second, 0);
}

}  // namespace

}  // namespace ccoe::cli
