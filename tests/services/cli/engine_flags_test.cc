#include "services/cli/engine_flags.h"

#include "gtest/gtest.h"
#include "services/cli/command.h"
#include "tests/testing/command_line.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

EngineFlags* g_engine = nullptr;
SamplingFlags* g_sampling = nullptr;

void RegisterProbe(CLI::App& app, CommandContext& context) {
  CLI::App* command =
      AddCommand(app, context, "probe", "Keeps its flags.", [] { return absl::OkStatus(); });
  AddEngineFlags(command, *g_engine);
  AddSamplingFlags(command, *g_sampling);
}

class EngineFlagsTest : public ::testing::Test {
 protected:
  EngineFlagsTest() {
    g_engine = &engine_;
    g_sampling = &sampling_;
  }
  int Parse(std::vector<std::string> words) {
    words.insert(words.begin(), "probe");
    return testing::RunCcoe(words, {RegisterProbe}).exit_code;
  }

  EngineFlags engine_;
  SamplingFlags sampling_;
};

TEST_F(EngineFlagsTest, BecomeOptions) {
  ASSERT_EQ(Parse({"--model", "m", "--expert", "e", "--exchange", "grpc", "--wire", "bf16",
                   "--expert-workers", "3", "--chunk", "7"}),
            0);
  ASSERT_OK_AND_ASSIGN(const services::OfflineOptions options, ToOfflineOptions(engine_));
  EXPECT_EQ(options.model_folder, "m");
  EXPECT_EQ(options.expert_folders, std::vector<std::string>{"e"});
  EXPECT_EQ(options.exchange, services::ExchangeKind::kGrpc);
  EXPECT_EQ(options.expert_workers, 3);
  EXPECT_EQ(options.engine.max_prefill_chunk, 7);
  EXPECT_EQ(options.engine.wire_dtype, kernels::DType::kBF16);
}

TEST_F(EngineFlagsTest, BecomeSamplingParams) {
  ASSERT_EQ(Parse({"--model", "m", "--temperature", "0.5", "--top-k", "3", "--seed", "9",
                   "--ignore-eos"}),
            0);
  const engine::SamplingParams params = ToSamplingParams(sampling_);
  EXPECT_EQ(params.temperature, 0.5f);
  EXPECT_EQ(params.top_k, 3);
  EXPECT_EQ(params.seed, 9u);
  EXPECT_TRUE(params.ignore_eos);
  EXPECT_FALSE(ToSamplingParams(SamplingFlags{}).seed.has_value());
}

TEST_F(EngineFlagsTest, RefuseWhatCannotBe) {
  EXPECT_EQ(Parse({}), kExitUsage);
  EXPECT_EQ(Parse({"--model", "m", "--exchange", "pigeon"}), kExitUsage);
  EXPECT_EQ(Parse({"--model", "m", "--chunk", "0"}), kExitUsage);
  EXPECT_EQ(Parse({"--model", "m", "--expert-workers", "x"}), kExitUsage);
}

}  // namespace
}  // namespace ccoe::cli
