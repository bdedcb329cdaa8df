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
#include "services/common/flag_table.h"
#include "tests/testing/command_line.h"

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
    ::testing::internal::CaptureStderr();
    ::testing::internal::CaptureStdout();
    int code = RunCommandLine(static_cast<int>(arguments.size()), arguments.data(), kCommands);
    stdout_ = ::testing::internal::GetCapturedStdout();
    stderr_ = ::testing::internal::GetCapturedStderr();
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

TEST_F(CommandTest, ATypoInAFlagIsNamedBeforeWhatIsMissingThen) {
  EXPECT_EQ(Run({"social", "greet", "--nam=Ada"}), kExitUsage);
  EXPECT_NE(stderr_.find("ccoe social greet: no flag \"--nam\"; did you mean \"--name\"?"),
            std::string::npos)
      << stderr_;
  EXPECT_EQ(Run({"social", "greet", "--name", "Ada", "--elephants", "5"}), kExitUsage);
  EXPECT_NE(stderr_.find("ccoe social greet: no flag \"--elephants\"\n"), std::string::npos)
      << stderr_;
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

TEST(ExitCodeTest, AServersOwnFailureIsNotAnAbsentServer) {
  EXPECT_TRUE(AsServerFailure(absl::OkStatus()).ok());
  const absl::Status failed = AsServerFailure(absl::UnavailableError("port in use"));
  EXPECT_EQ(failed.message(), "port in use");
  EXPECT_EQ(ExitCodeFor(failed), kExitFailed);
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
    ::testing::internal::CaptureStderr();
    const int code =
        RunCommandLine(static_cast<int>(arguments.size()), arguments.data(), kCommands);
    stderr_ = ::testing::internal::GetCapturedStderr();
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

struct ServeFlags {
  std::string model;
  int threads = 1;
  std::vector<std::string> folders;
  bool loud = false;
};
ServeFlags* served = nullptr;
ServeFlags* other = nullptr;

services::FlagTable FlagsOf(ServeFlags& flags) {
  services::FlagTable table;
  table.Add("model", &flags.model, "Which model.").Required();
  table.AddWhole("threads", &flags.threads, 0, 64, "How many.");
  table.AddList("folder", &flags.folders, "Folders.");
  table.Add("loud", &flags.loud, "Shout.");
  return table;
}

void RegisterServe(CLI::App& app, CommandContext& context) {
  CLI::App* command = AddCommand(app, context, "serve", "Serves.", [] { return absl::OkStatus(); });
  AddConfigFlags(command, context, FlagsOf(*served));
}

void RegisterOther(CLI::App& app, CommandContext& context) {
  CLI::App* command =
      AddCommand(app, context, "other", "Serves too.", [] { return absl::OkStatus(); });
  AddConfigFlags(command, context, FlagsOf(*other));
}

void RegisterPlain(CLI::App& app, CommandContext& context) {
  AddCommand(app, context, "plain", "Takes no config.", [] { return absl::OkStatus(); });
}

class ConfigTest : public ::testing::Test {
 protected:
  ConfigTest() {
    served = &flags_;
    other = &other_;
    unsetenv("CCOE_SERVE_THREADS");
  }

  testing::CommandOutput Run(const std::vector<std::string>& words) {
    return testing::RunCcoe(words, {RegisterServe, RegisterOther, RegisterPlain});
  }
  void ExpectRefused(const std::string& text, const std::string& words) {
    const std::string file = testing::WriteTemp("refused.toml", text);
    const auto run = Run({"serve", "--config", file});
    EXPECT_EQ(run.exit_code, kExitUsage) << text;
    EXPECT_THAT(run.err, ::testing::HasSubstr("ccoe serve: --config: " + file + words));
  }

  ServeFlags flags_, other_;
};

constexpr char kConfig[] = R"(
[serve]
model = "a #1"
threads = 7
folder = ["x", "y"]
loud = true
[other]
threads = 9
)";

TEST_F(ConfigTest, AFileSetsFlagsBeforeOrBehindTheSubcommand) {
  const std::string file = testing::WriteTemp("c.toml", kConfig);
  for (const auto& words : {std::vector<std::string>{"--config", file, "serve"},
                            std::vector<std::string>{"serve", "--config=" + file}}) {
    flags_ = ServeFlags();
    const auto run = Run(words);
    EXPECT_EQ(run.exit_code, kExitOk) << run.err;
    EXPECT_EQ(flags_.model, "a #1");
    EXPECT_EQ(flags_.threads, 7);
    EXPECT_EQ(flags_.folders, (std::vector<std::string>{"x", "y"}));
    EXPECT_TRUE(flags_.loud);
  }
}

TEST_F(ConfigTest, TheCommandLineWinsOverTheEnvironmentAndThatOverTheFile) {
  const std::string file = testing::WriteTemp("c.toml", kConfig);
  EXPECT_EQ(Run({"serve", "--folder=z", "--model=b", "--config", file, "--loud=false"}).exit_code,
            kExitOk);
  EXPECT_EQ(flags_.model, "b");
  EXPECT_EQ(flags_.folders, std::vector<std::string>{"z"});
  EXPECT_FALSE(flags_.loud);
  EXPECT_EQ(flags_.threads, 7);
  setenv("CCOE_SERVE_THREADS", "3", 1);
  EXPECT_EQ(Run({"serve", "--config", file}).exit_code, kExitOk);
  EXPECT_EQ(flags_.threads, 3);
  EXPECT_EQ(Run({"serve", "--config", file, "--threads=2"}).exit_code, kExitOk);
  EXPECT_EQ(flags_.threads, 2);
}

TEST_F(ConfigTest, AVariableOfAnotherCommandIsNoneOfThisOnes) {
  setenv("CCOE_SERVE_THREADS", "many", 1);
  EXPECT_EQ(Run({"other", "--model=x"}).exit_code, kExitOk);
  const auto run = Run({"serve", "--model=x"});
  EXPECT_EQ(run.exit_code, kExitUsage);
  EXPECT_THAT(run.err, ::testing::HasSubstr("--threads: expected a whole number"));
  unsetenv("CCOE_SERVE_THREADS");
  for (const char* value : {"maybe", "99999999999999999999", "2"}) {
    setenv("CCOE_SERVE_LOUD", value, 1);
    EXPECT_EQ(Run({"other", "--model=x"}).exit_code, kExitOk);
    const auto loud = Run({"serve", "--model=x"});
    EXPECT_EQ(loud.exit_code, kExitUsage);
    EXPECT_THAT(loud.err, ::testing::HasSubstr("--loud: expected true or false")) << value;
  }
  unsetenv("CCOE_SERVE_LOUD");
}

TEST_F(ConfigTest, WhatIsWrongInAFileIsNamedWhicheverSectionItStandsIn) {
  ExpectRefused("[serve]\nmodell = \"x\"",
                ":2: [serve] modell: no such key; did you mean \"model\"?");
  ExpectRefused("[serve]\nelephants = 1",
                ":2: [serve] elephants: no such key; expected one of model");
  ExpectRefused("[serve]\nthreads = 65",
                ":2: [serve] threads: expected a whole number from 0 to 64, found \"65\"");
  ExpectRefused("[other]\nthreads = 65", ":2: [other] threads: expected");
  ExpectRefused("[plain]\n", ":1: expected a section of other, serve, found [plain]");
  ExpectRefused("model = x", ":1: expected a section");
  const std::string others = testing::WriteTemp("others.toml", "[other]\nthreads = 2\n");
  const auto unsaid = Run({"serve", "--config", others});
  EXPECT_EQ(unsaid.exit_code, kExitUsage);
  EXPECT_THAT(unsaid.err,
              ::testing::HasSubstr("is required; " + others + " has no section [serve]"));
  const auto missing = Run({"serve", "--config", "/no/such/file"});
  EXPECT_EQ(missing.exit_code, kExitUsage);
  EXPECT_THAT(missing.err, ::testing::HasSubstr("/no/such/file"));
}

TEST_F(ConfigTest, AValueOfTheCommandLineIsRefusedAsOneOfAFile) {
  const auto run = Run({"serve", "--model=x", "--threads=65"});
  EXPECT_EQ(run.exit_code, kExitUsage);
  EXPECT_THAT(run.err, ::testing::HasSubstr("ccoe serve: --threads: expected a whole number from 0 "
                                            "to 64, found \"65\""));
}

TEST_F(ConfigTest, ACommandWithoutAConfigRefusesOne) {
  const std::string file = testing::WriteTemp("c.toml", kConfig);
  const auto run = Run({"--config", file, "plain"});
  EXPECT_EQ(run.exit_code, kExitUsage);
  EXPECT_THAT(run.err, ::testing::HasSubstr("plain takes no config file"));
}

TEST_F(ConfigTest, WhatIsRequiredMayComeFromTheFileAlone) {
  EXPECT_EQ(Run({"serve"}).exit_code, kExitUsage);
  EXPECT_EQ(
      Run({"serve", "--config", testing::WriteTemp("c.toml", "[serve]\nthreads = 1\n")}).exit_code,
      kExitUsage);
}

TEST_F(ConfigTest, PrintsWhatWouldBeRunWithAndReadsItBack) {
  const auto empty = Run({"serve", "--print-config"});
  EXPECT_EQ(empty.exit_code, kExitOk) << empty.err;
  EXPECT_THAT(empty.out, ::testing::HasSubstr("# Which model. Required.\n#model =\n"));
  flags_ = ServeFlags();
  const auto printed = Run({"serve", "--print-config", "--config",
                            testing::WriteTemp("c.toml", kConfig), "--threads=5"});
  EXPECT_EQ(printed.exit_code, kExitOk) << printed.err;
  EXPECT_THAT(printed.out, ::testing::HasSubstr("# How many.\nthreads = 5\n"));
  EXPECT_THAT(printed.out, ::testing::HasSubstr("model = \"a #1\"\n"));
  flags_ = ServeFlags();
  const auto again =
      Run({"serve", "--print-config", "--config", testing::WriteTemp("d.toml", printed.out)});
  EXPECT_EQ(again.out, printed.out);
}

TEST_F(ConfigTest, HelpShowsTypesDefaultsAndVariables) {
  const auto help = Run({"serve", "--help"});
  EXPECT_EQ(help.exit_code, kExitOk);
  for (const char* words : {"--model TEXT REQUIRED (Env:CCOE_SERVE_MODEL)",
                            "--threads INT:INT in [0 - 64]=1 (Env:CCOE_SERVE_THREADS)",
                            "--folder TEXT=[] ... (Env:CCOE_SERVE_FOLDER)",
                            "--loud (Env:CCOE_SERVE_LOUD)", "--config FILE", "--print-config"}) {
    EXPECT_THAT(help.out, ::testing::HasSubstr(words));
  }
}

}  // namespace
}  // namespace ccoe::cli
