// SPDX-License-Identifier: Apache-2.0
#include "services/cli/command.h"

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/telemetry/process_info.h"

namespace ccoe::cli {
namespace {

struct GreetFlags {
  std::string name;
  int64_t times = 1;
  bool loud = false;
};

// What the last run of "greet" saw; CLI registration functions take no state.
GreetFlags* seen = nullptr;
absl::Status result;

void RegisterGreet(CLI::App& app, CommandContext& context) {
  auto flags = std::make_shared<GreetFlags>();
  CLI::App* group = AddCommandGroup(app, "social", "Commands for company.");
  CLI::App* command = AddCommand(*group, context, "greet", "Says hello.", [flags] {
    *seen = *flags;
    return result;
  });
  AddFlag(command, "--name", flags->name, "Whom to greet.").Required();
  AddFlag(command, "--how-often", flags->times, "How often.").Range(1, 100);
  AddSwitch(command, "--loud", flags->loud, "Shout.");
}

class CommandTest : public ::testing::Test {
 protected:
  CommandTest() {
    seen = &flags_;
    result = absl::OkStatus();
    unsetenv("CCOE_SOCIAL_GREET_HOW_OFTEN");
    unsetenv("CCOE_SOCIAL_GREET_LOUD");
  }

  int Run(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "ccoe");
    static constexpr RegisterFunction kCommands[] = {RegisterGreet};
    testing::internal::CaptureStderr();
    testing::internal::CaptureStdout();
    int code = RunCommandLine(static_cast<int>(arguments.size()), arguments.data(), kCommands);
    stdout_ = testing::internal::GetCapturedStdout();
    stderr_ = testing::internal::GetCapturedStderr();
    return code;
  }

  GreetFlags flags_;
  std::string stdout_, stderr_;
};

TEST_F(CommandTest, RunsTheChosenCommandWithItsFlags) {
  EXPECT_EQ(Run({"social", "greet", "--name", "Ada", "--how-often=3", "--loud"}), kExitOk);
  EXPECT_EQ(flags_.name, "Ada");
  EXPECT_EQ(flags_.times, 3);
  EXPECT_TRUE(flags_.loud);
}

TEST_F(CommandTest, EnvironmentVariablesSetFlagsAndTheCommandLineWins) {
  setenv("CCOE_SOCIAL_GREET_HOW_OFTEN", "7", 1);
  setenv("CCOE_SOCIAL_GREET_LOUD", "true", 1);
  EXPECT_EQ(Run({"social", "greet", "--name", "Ada"}), kExitOk);
  EXPECT_EQ(flags_.times, 7);
  EXPECT_TRUE(flags_.loud);
  EXPECT_EQ(Run({"social", "greet", "--name", "Ada", "--how-often", "2"}), kExitOk);
  EXPECT_EQ(flags_.times, 2);
}

TEST_F(CommandTest, WrongUsageExitsWith2AndNamesTheCommand) {
  EXPECT_EQ(Run({"social", "greet"}), kExitUsage);
  EXPECT_NE(stderr_.find("ccoe social greet: --name is required"), std::string::npos) << stderr_;
  EXPECT_EQ(Run({"social", "greet", "--name", "Ada", "--how-often", "0"}), kExitUsage);
  EXPECT_EQ(Run({"social", "dance"}), kExitUsage);
  EXPECT_EQ(Run({}), kExitUsage);
  EXPECT_EQ(Run({"--log", "loud", "social", "greet", "--name", "Ada"}), kExitUsage);
}

TEST_F(CommandTest, ATypoInASubcommandIsNamedWithTheNearestOne) {
  EXPECT_EQ(Run({"socal"}), kExitUsage);
  EXPECT_EQ(stderr_,
            "ccoe: no subcommand \"socal\"; did you mean \"social\"?\nTry \"ccoe --help\".\n");
  EXPECT_EQ(Run({"social", "gret", "--name", "Ada"}), kExitUsage);
  EXPECT_NE(stderr_.find("ccoe social: no subcommand \"gret\"; did you mean \"greet\"?"),
            std::string::npos)
      << stderr_;
  EXPECT_EQ(Run({"elephant"}), kExitUsage);
  EXPECT_EQ(stderr_, "ccoe: no subcommand \"elephant\"\nTry \"ccoe --help\".\n");
}

TEST_F(CommandTest, VersionExitsWith0AndSaysIt) {
  EXPECT_EQ(Run({"--version"}), kExitOk);
  EXPECT_EQ(stdout_, absl::StrCat("ccoe ", telemetry::kVersion, "\n"));
}

TEST_F(CommandTest, HelpExitsWith0AndShowsDefaultsAndEnvironmentVariables) {
  EXPECT_EQ(Run({"social", "greet", "--help"}), kExitOk);
  EXPECT_NE(stdout_.find("CCOE_SOCIAL_GREET_HOW_OFTEN"), std::string::npos) << stdout_;
  EXPECT_NE(stdout_.find("=1"), std::string::npos) << stdout_;
}

TEST_F(CommandTest, AnErrorIsPrintedAndBecomesTheExitCode) {
  result = absl::NotFoundError("no such person");
  EXPECT_EQ(Run({"social", "greet", "--name", "Ada"}), kExitFailed);
  EXPECT_EQ(stderr_, "ccoe social greet: no such person\n");
  EXPECT_EQ(stdout_, "");
  result = absl::UnavailableError("nobody listens");
  EXPECT_EQ(Run({"social", "greet", "--name", "Ada"}), kExitUnavailable);
  result = UsageError("--loud and silence contradict each other");
  EXPECT_EQ(Run({"social", "greet", "--name", "Ada"}), kExitUsage);
}

void RegisterFamily(CLI::App& app, CommandContext& context) {
  static bool quiet;
  static int64_t volume;
  quiet = false;
  CLI::App* sing = AddCommand(app, context, "sing", "Sings.", [] { return result; });
  AddFlag(sing, "--volume", volume, "How loud.");
  AddSwitch(sing, "--quiet", quiet, "Not at all.");
  AddNoEffect(sing, context, [] { return quiet; }, "with --quiet", {"--volume"});
  AddCommand(*sing, context, "along", "With others.", [] { return result; });
}

class FlagsTogetherTest : public ::testing::Test {
 protected:
  FlagsTogetherTest() {
    result = absl::OkStatus();
    unsetenv("CCOE_SING_VOLUME");
  }

  int Run(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "ccoe");
    static constexpr RegisterFunction kCommands[] = {RegisterFamily};
    testing::internal::CaptureStderr();
    const int code =
        RunCommandLine(static_cast<int>(arguments.size()), arguments.data(), kCommands);
    stderr_ = testing::internal::GetCapturedStderr();
    return code;
  }

  std::string stderr_;
};

TEST_F(FlagsTogetherTest, AFlagWithoutEffectIsWrongUsageAndNamed) {
  EXPECT_EQ(Run({"sing", "--volume", "3"}), kExitOk);
  EXPECT_EQ(Run({"sing", "--quiet"}), kExitOk);
  EXPECT_EQ(Run({"sing", "--volume", "3", "--quiet"}), kExitUsage);
  EXPECT_EQ(stderr_, "ccoe sing: --volume has no effect with --quiet\n");
  EXPECT_EQ(Run({"sing", "--volume", "3", "--quiet=false"}), kExitOk);
}

TEST_F(FlagsTogetherTest, AnEnvironmentVariableMayBeSetForOtherUses) {
  setenv("CCOE_SING_VOLUME", "3", 1);
  EXPECT_EQ(Run({"sing", "--quiet"}), kExitOk);
  EXPECT_EQ(Run({"sing", "along"}), kExitOk);
}

TEST_F(FlagsTogetherTest, AFlagBeforeTheSubcommandThatItIsNotForIsWrongUsage) {
  EXPECT_EQ(Run({"sing", "along"}), kExitOk);
  EXPECT_EQ(Run({"sing", "--volume", "3", "along"}), kExitUsage);
  EXPECT_THAT(stderr_, ::testing::HasSubstr("--volume before \"along\" has no effect"));
}

TEST_F(FlagsTogetherTest, LogStandsBeforeTheSubcommandOrBehindIt) {
  for (const std::vector<const char*>& words :
       std::vector<std::vector<const char*>>{{"--log", "error", "sing"},
                                             {"sing", "--log", "error"},
                                             {"sing", "--log", "error", "along"},
                                             {"--log", "info", "sing", "along", "--log=error"}}) {
    FLAGS_minloglevel = google::GLOG_INFO;
    EXPECT_EQ(Run(words), kExitOk) << stderr_;
    EXPECT_EQ(FLAGS_minloglevel, google::GLOG_ERROR) << ::testing::PrintToString(words);
  }
  EXPECT_EQ(Run({"sing", "--log", "loud"}), kExitUsage);
}

TEST(EnvironmentNameTest, NamesTheCommandAndTheFlag) {
  CLI::App app("", "ccoe");
  CLI::App* experts = app.add_subcommand("experts", "");
  CLI::App* extract = experts->add_subcommand("extract", "");
  EXPECT_EQ(EnvironmentName(*extract, "--kv-tokens"), "CCOE_EXPERTS_EXTRACT_KV_TOKENS");
  EXPECT_EQ(EnvironmentName(*experts, "--json"), "CCOE_EXPERTS_JSON");
}

TEST(FlagsTest, TakeTheEnvironmentWhereTheCommandLineIsSilent) {
  CLI::App app("", "ccoe");
  CLI::App* up = app.add_subcommand("up", "");
  int threads = 3;
  bool json = false;
  std::string model = "none";
  AddFlag(up, "--threads", threads, "");
  AddFlag(up, "--model", model, "");
  AddSwitch(up, "--json", json, "");
  setenv("CCOE_UP_THREADS", "7", 1);
  setenv("CCOE_UP_MODEL", "from-environment", 1);
  setenv("CCOE_UP_JSON", "true", 1);
  const char* const argv[] = {"ccoe", "up", "--model", "from-line"};
  app.parse(4, argv);
  EXPECT_EQ(threads, 7);
  EXPECT_EQ(model, "from-line");
  EXPECT_TRUE(json);
}

TEST(FlagsTest, ACheckOfOnesOwnSaysWhatIsWrong) {
  CLI::App app("", "ccoe");
  std::string word;
  AddFlag(&app, "--word", word, "").Check([](const std::string& text) {
    return text == "right" ? "" : "expected right, found " + text;
  });
  const char* const right[] = {"ccoe", "--word", "right"};
  app.parse(3, right);
  EXPECT_EQ(word, "right");
  const char* const wrong[] = {"ccoe", "--word", "wrong"};
  try {
    app.parse(3, wrong);
    FAIL() << "was taken";
  } catch (const CLI::ParseError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("expected right, found wrong"));
  }
}

TEST(FlagsTest, NoRangeHoldsWhatIsNoNumber) {
  CLI::App app("", "ccoe");
  double ratio = 0.0;
  AddFlag(&app, "--ratio", ratio, "").Range(0.0, 1.0);
  for (const char* text : {"nan", "-NaN", "1.5", "inf", "x"}) {
    const char* const line[] = {"ccoe", "--ratio", text};
    EXPECT_THROW(app.parse(3, line), CLI::ParseError) << text;
  }
  const char* const right[] = {"ccoe", "--ratio", "0.5"};
  app.parse(3, right);
  EXPECT_EQ(ratio, 0.5);
}

TEST(FlagsTest, AFlagThatCommandsShareMayBeOptionalForOne) {
  CLI::App app("", "ccoe");
  std::string model;
  AddFlag(&app, "--model", model, "Which.").Required();
  FindFlag(&app, "--model").Optional().Help("Which, if any.");
  const char* const argv[] = {"ccoe"};
  app.parse(1, argv);
  EXPECT_THAT(app.help(), ::testing::HasSubstr("Which, if any."));
}

}  // namespace
}  // namespace ccoe::cli
