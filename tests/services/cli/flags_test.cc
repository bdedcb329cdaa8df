// SPDX-License-Identifier: Apache-2.0
#include "services/cli/flags.h"

#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/cli/command.h"
#include "services/offline/offline_engine.h"
#include "tests/testing/command_line.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(MoeFlagsTest, BecomeAControl) {
  CLI::App app("test");
  CLI::App* command = app.add_subcommand("ask");
  MoeFlags flags;
  std::string text;
  AddMoeFlags(command, flags);
  AddPositional(command, "text", text, "");
  app.parse(
      "ask --active-experts 4 --active-experts 3:2 --mask-expert 3:17 --mask-expert 3:18 "
      "--force-expert 5 question");
  EXPECT_EQ(text, "question");
  ASSERT_OK_AND_ASSIGN(const auto control, ToMoeControl(flags));
  ASSERT_NE(control, nullptr);
  EXPECT_EQ(control->all_layers.active_experts, 4);
  EXPECT_THAT(control->all_layers.forced, ElementsAre(5));
  EXPECT_EQ(control->layers.at(3).active_experts, 2);
  EXPECT_THAT(control->layers.at(3).masked, ElementsAre(17, 18));
}

TEST(MoeFlagsTest, WithoutFlagsThereIsNoControl) {
  ASSERT_OK_AND_ASSIGN(const auto control, ToMoeControl(MoeFlags()));
  EXPECT_EQ(control, nullptr);
}

TEST(MoeFlagsTest, NamesTheFlagThatMakesNoSense) {
  const auto refused = [](const MoeFlags& flags, const char* flag) {
    const absl::Status status = ToMoeControl(flags).status();
    EXPECT_EQ(ExitCodeFor(status), kExitUsage);
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(flag)));
  };
  refused({{"two"}, {}, {}}, "--active-experts");
  refused({{"0"}, {}, {}}, "--active-experts");
  refused({{"3:1", "3:2"}, {}, {}}, "--active-experts");
  refused({{}, {"1:2:3"}, {}}, "--mask-expert");
  refused({{}, {""}, {}}, "--mask-expert");
  refused({{}, {}, {"-1:2"}}, "--force-expert");
}

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
  ASSERT_EQ(Parse({"--model", "m", "--bundle", "e", "--exchange", "grpc", "--wire", "bf16",
                   "--expert-workers", "3", "--prefill-chunk", "7", "--kv-tokens", "11",
                   "--expert-kv-tokens", "13"}),
            0);
  ASSERT_OK_AND_ASSIGN(const services::OfflineOptions options, ToOfflineOptions(engine_));
  EXPECT_EQ(options.model_folder, "m");
  EXPECT_EQ(options.expert_folders, std::vector<std::string>{"e"});
  EXPECT_EQ(options.exchange, services::ExchangeKind::kGrpc);
  EXPECT_EQ(options.expert_workers, 3);
  EXPECT_EQ(options.engine.max_prefill_chunk, 7);
  EXPECT_EQ(options.engine.kv_tokens, 11);
  EXPECT_EQ(options.expert_kv_tokens, 13);
  EXPECT_EQ(options.engine.wire_dtype, kernels::DType::kBF16);
}

TEST_F(EngineFlagsTest, ExchangeIsLocalUnlessAWireIsAskedFor) {
  for (const char* exchange : {"auto", "local"}) {
    ASSERT_EQ(Parse({"--model", "m", "--exchange", exchange}), 0);
    ASSERT_OK_AND_ASSIGN(const services::OfflineOptions options, ToOfflineOptions(engine_));
    EXPECT_EQ(options.exchange, services::ExchangeKind::kLocal);
  }
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
  EXPECT_EQ(Parse({"--model", "m", "--exchange", "nccl"}), kExitUsage);
  EXPECT_EQ(Parse({"--model", "m", "--prefill-chunk", "0"}), kExitUsage);
  EXPECT_EQ(Parse({"--model", "m", "--expert-workers", "x"}), kExitUsage);
}

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
