// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_ops.h"

#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "hwy/highway.h"
#include "hwy/targets.h"
#include "runtime/base/parallel.h"
#include "tests/kernels/ops_conformance.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::kernels {
namespace {

ThreadTeam* Team(int threads) {
  static std::vector<std::unique_ptr<ThreadTeam>> teams(4);
  if (teams[threads] == nullptr) teams[threads] = std::make_unique<ThreadTeam>(threads);
  return teams[threads].get();
}

// Every instruction set that this machine has, by one to three threads.
std::vector<OpsUnderTest> AllTargets() {
  std::vector<OpsUnderTest> all;
  for (int64_t target : hwy::SupportedAndGeneratedTargets()) {
    for (int threads : {1, 2, 3}) {
      OpsUnderTest test;
      test.name =
          absl::StrCat(hwy::TargetName(target), "_", threads, threads == 1 ? "thread" : "threads");
      test.make = [target, threads] {
        hwy::SetSupportedTargetsForTest(target);
        return MakeCpuOps(Team(threads));
      };
      all.push_back(test);
    }
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Cpu, OpsConformance, ::testing::ValuesIn(AllTargets()), OpsUnderTestName);
INSTANTIATE_TEST_SUITE_P(Cpu, OpsDeterminism, ::testing::ValuesIn(AllTargets()), OpsUnderTestName);

TEST(CpuOpsTest, AKvCacheOfF32IsUsableAndAnotherIsRefusedByName) {
  EXPECT_OK(CheckCpuKvDtype(DType::kF32));
  EXPECT_THAT(CheckCpuKvDtype(DType::kBF16),
              ccoe::testing::StatusIs(absl::StatusCode::kUnimplemented,
                                      ::testing::HasSubstr("found bf16")));
}

}  // namespace
}  // namespace ccoe::kernels
