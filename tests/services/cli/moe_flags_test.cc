#include "services/cli/moe_flags.h"

#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/cli/command.h"
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

TEST(MoePolicyFlagsTest, AllowNothingByDefault) {
  const engine::MoePolicy policy = ToMoePolicy(MoePolicyFlags());
  EXPECT_FALSE(policy.allow_active_experts);
  EXPECT_FALSE(policy.allow_masks);
  EXPECT_FALSE(policy.allow_forced);
}

TEST(MoePolicyFlagsTest, BecomeAPolicy) {
  CLI::App app("test");
  CLI::App* command = app.add_subcommand("serve");
  MoePolicyFlags flags;
  AddMoePolicyFlags(command, flags);
  app.parse("serve --moe-active-experts 2:6 --moe-allow-forced");
  const engine::MoePolicy policy = ToMoePolicy(flags);
  EXPECT_TRUE(policy.allow_active_experts);
  EXPECT_EQ(policy.min_active_experts, 2);
  EXPECT_EQ(policy.max_active_experts, 6);
  EXPECT_FALSE(policy.allow_masks);
  EXPECT_TRUE(policy.allow_forced);
}

TEST(MoePolicyFlagsTest, RefuseBoundsThatMakeNoSense) {
  for (const char* bounds : {"4", "0:4", "5:4", "a:b", "1:2:3"}) {
    CLI::App app("test");
    CLI::App* command = app.add_subcommand("serve");
    MoePolicyFlags flags;
    AddMoePolicyFlags(command, flags);
    EXPECT_THROW(app.parse(std::string("serve --moe-active-experts ") + bounds),
                 CLI::ValidationError)
        << bounds;
  }
}

}  // namespace
}  // namespace ccoe::cli
