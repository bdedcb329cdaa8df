#include "services/cli/serving_flags.h"

#include "CLI/CLI.hpp"
#include "gtest/gtest.h"

namespace ccoe::cli {
namespace {

TEST(ServingFlagsTest, FlagsBecomeEngineOptions) {
  CLI::App app("test");
  CLI::App* command = app.add_subcommand("serve");
  ServingEngineFlags flags;
  int threads = 0;
  AddServingEngineFlags(command, flags);
  AddThreadsFlag(command, threads);
  app.parse(
      "serve --kv-tokens 100 --step-tokens 20 --prefill-chunk 10 --max-running 3 "
      "--max-waiting 0 --replica-patience 0.5 --room-patience 7 --wire bf16 --threads 2 "
      "--moe-active-experts 1:4");
  const engine::EngineOptions options = ToEngineOptions(flags);
  EXPECT_EQ(options.kv_tokens, 100);
  EXPECT_EQ(options.max_step_tokens, 20);
  EXPECT_EQ(options.max_prefill_chunk, 10);
  EXPECT_EQ(options.max_running, 3);
  EXPECT_EQ(options.max_waiting, 0);
  EXPECT_EQ(options.wire_dtype, kernels::DType::kBF16);
  EXPECT_EQ(options.moe_policy.max_active_experts, 4);
  EXPECT_EQ(options.replica_patience, absl::Milliseconds(500));
  EXPECT_EQ(options.room_patience, absl::Seconds(7));
  EXPECT_EQ(threads, 2);
}

TEST(ServingFlagsTest, DefaultsAreTheEngines) {
  CLI::App app("test");
  CLI::App* command = app.add_subcommand("serve");
  ServingEngineFlags flags;
  AddServingEngineFlags(command, flags);
  app.parse("serve");
  const engine::EngineOptions options = ToEngineOptions(flags);
  EXPECT_EQ(options.kv_tokens, engine::EngineOptions().kv_tokens);
  EXPECT_EQ(options.wire_dtype, kernels::DType::kF32);
  EXPECT_EQ(options.replica_patience, engine::EngineOptions().replica_patience);
  EXPECT_EQ(options.room_patience, engine::EngineOptions().room_patience);
}

TEST(ServingFlagsTest, ComputeFlagsBecomeOptionsAndDeterminismIsTheDefault) {
  const auto parse = [](const std::string& line) {
    CLI::App app("test");
    CLI::App* command = app.add_subcommand("serve");
    ComputeFlags flags;
    AddComputeFlags(command, flags);
    app.parse(line);
    return ToComputeOptions(flags);
  };
  const services::ComputeOptions defaults = parse("serve");
  EXPECT_EQ(defaults.device, "cpu");
  EXPECT_EQ(defaults.numerics, services::Numerics::kDeterministic);
  const services::ComputeOptions fast = parse("serve --device cuda:1 --math bf16 --numerics fast");
  EXPECT_EQ(fast.device, "cuda:1");
  EXPECT_EQ(fast.math, kernels::DType::kBF16);
  EXPECT_EQ(fast.numerics, services::Numerics::kFast);
}

}  // namespace
}  // namespace ccoe::cli
