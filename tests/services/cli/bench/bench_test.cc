// SPDX-License-Identifier: Apache-2.0
#include "services/cli/bench/bench.h"

#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_ops.h"
#include "nlohmann/json.hpp"
#include "runtime/model/families/random_model.h"
#include "services/cli/bench/model.h"
#include "services/cli/commands.h"
#include "tests/testing/command_line.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

const std::vector<std::string> kTiny = {
    "--hidden",       "64",  "--layers",     "4",   "--heads",   "4", "--kv-heads", "2",
    "--intermediate", "128", "--vocabulary", "256", "--threads", "2"};

testing::CommandOutput Bench(std::vector<std::string> words) {
  words.insert(words.end(), kTiny.begin(), kTiny.end());
  return testing::RunCcoe(words, {RegisterBench});
}

BenchModelFlags Tiny() {
  BenchModelFlags flags;
  flags.hidden = 64;
  flags.layers = flags.heads = 4;
  flags.kv_heads = 2;
  flags.intermediate = 128;
  flags.vocabulary = 256;
  return flags;
}

TEST(BenchTest, PrintsRatesAgainstTheMachinesOwn) {
  const auto result = Bench({"bench", "--rounds", "1", "--new-tokens", "4", "--json"});
  ASSERT_EQ(result.exit_code, kExitOk) << result.err;
  const nlohmann::json report = nlohmann::json::parse(result.out);
  for (const char* rate :
       {"read_bandwidth_bytes_per_second", "sgemm_flops_per_second", "decode_1_tokens_per_second",
        "decode_16_tokens_per_second", "prefill_512_tokens_per_second"}) {
    EXPECT_GT(report[rate].get<double>(), 0) << rate;
  }
  const auto value = [&report](const char* key) { return report[key].get<double>(); };
  EXPECT_EQ(report["threads"], 2);
  EXPECT_EQ(value("parameters"), model::ParameterCount(ToModelOptions(Tiny(), 1)));
  EXPECT_DOUBLE_EQ(value("decode_16_of_decode_1"),
                   value("decode_16_tokens_per_second") / value("decode_1_tokens_per_second"));
  // Of the same weights, 2 bytes each: all but the embedding table.
  const double touched = value("parameters") - 256 * 64;
  EXPECT_NEAR(
      value("decode_1_of_bandwidth"),
      value("decode_1_tokens_per_second") * 2 * touched / value("read_bandwidth_bytes_per_second"),
      1e-9 * value("decode_1_of_bandwidth"));
  // Each prompt token is at least two operations a weight below the head.
  EXPECT_GT(value("prefill_512_of_sgemm"), value("prefill_512_tokens_per_second") * 2 *
                                               (touched - 256 * 64) /
                                               value("sgemm_flops_per_second"));
}

TEST(BenchTest, RemovesItsModelsUnlessToldToKeepThem) {
  const std::string folder = testing::TempPath("models");
  ASSERT_EQ(Bench({"bench", "--rounds", "1", "--new-tokens", "4", "--dir", folder}).exit_code,
            kExitOk);
  EXPECT_FALSE(std::filesystem::exists(folder));
  ASSERT_EQ(
      Bench({"bench", "--rounds", "1", "--new-tokens", "4", "--dir", folder, "--keep"}).exit_code,
      kExitOk);
  EXPECT_TRUE(std::filesystem::exists(folder + "/model/config.json"));
  EXPECT_THAT(Bench({"bench", "--dir", folder}).err, HasSubstr("not there yet"));
}

TEST(BenchMemoryTest, ComparesExpertsWithFullModels) {
  const auto result = Bench({"bench", "memory", "--expert-layers", "1", "--prompt-tokens", "8",
                             "--new-tokens", "2", "--json"});
  ASSERT_EQ(result.exit_code, kExitOk) << result.err;
  const nlohmann::json report = nlohmann::json::parse(result.out);
  const auto value = [&report](const char* key) { return report[key].get<double>(); };
  EXPECT_GT(value("without_base_top_bytes"), 0);
  EXPECT_DOUBLE_EQ(value("ratio"),
                   value("backbone_with_experts_bytes") / value("full_models_bytes"));
  EXPECT_DOUBLE_EQ(value("ratio_without_base_top"),
                   value("without_base_top_bytes") / value("full_models_bytes"));
  // It takes minutes at its real size, and a log shows what it is at.
  EXPECT_EQ(result.err,
            "measuring five full models\nmeasuring one backbone with five experts\n"
            "measuring the same without the base's own top layers\n");
  EXPECT_EQ(Bench({"bench", "memory", "--expert-layers", "4"}).exit_code, kExitUsage);
}

TEST(BenchGpuTest, TheCpuIsNoGpu) {
  EXPECT_THAT(BenchGpu(BenchFlags(), ""), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(BenchGpuTest, AGpuThatIsNotThereIsNamed) {
  if (kernels::CudaDeviceCount() > 0) GTEST_SKIP() << "there is one";
  BenchFlags flags;
  flags.model.compute.device = "cuda:1";
  const absl::Status status = BenchGpu(flags, "");
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("device cuda:1"));
}

}  // namespace

}  // namespace ccoe::cli
