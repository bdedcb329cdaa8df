// SPDX-License-Identifier: Apache-2.0
// How a subcommand of `ccoe` is made: flags (a plain struct with defaults), a function that runs
// it, and a Register function that joins the two; commands.h declares the Register functions,
// main.cc lists them. As an example:
//
//   struct GreetFlags {
//     std::string name;
//     int64_t times = 1;
//   };
//
//   absl::Status Greet(const GreetFlags& flags) { ... }
//
//   void RegisterGreet(CLI::App& app, CommandContext& context) {
//     auto flags = std::make_shared<GreetFlags>();
//     CLI::App* command = AddCommand(app, context, "greet", "Says hello.",
//                                    [flags] { return Greet(*flags); });
//     AddFlag(command, "--name", flags->name, "Whom to greet.").Required();
//     AddFlag(command, "--times", flags->times, "How often.").Range(1, 100);
//   }
//
// Environment variables set flags too: --times of `ccoe greet` is CCOE_GREET_TIMES, --base of
// `ccoe experts extract` is CCOE_EXPERTS_EXTRACT_BASE. The command line wins. --help shows both
// names and the default.
//
// Commands that serve have their flags in a table (AddConfigFlags), and take a config file: the
// command line wins over the environment, that over the file, that over the default.
// --log is a flag of every subcommand, too.
//
// Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the server cannot be reached. An error is printed
// to stderr as "ccoe greet: message"; what a program may read goes to stdout alone. Standard output
// that cannot be written is an error as any other (services/cli/output.h).
//
// CLI11 is parsed by command.cc alone: its headers cost each source that includes them 8 seconds.
#ifndef CCOE_SERVICES_CLI_COMMAND_H_
#define CCOE_SERVICES_CLI_COMMAND_H_

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "services/common/flag_table.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace ccoe::cli {

enum ExitCode : int { kExitOk = 0, kExitFailed = 1, kExitUsage = 2, kExitUnavailable = 3 };

using CommandFunction = absl::AnyInvocable<absl::Status()>;

// A command that takes a config file, with the section of its name.
struct ConfiguredCommand {
  CLI::App* command = nullptr;
  services::FlagTable flags;
};

// What the command line chose; filled while CLI11 parses, run afterwards.
struct CommandContext {
  std::string name;  // "experts extract"
  CommandFunction run;
  std::map<std::string, ConfiguredCommand> configured;  // by name
  std::string config_file;                              // that was read last; empty: none
  std::set<std::string> sections;                       // of all files that were read
  bool print_config = false;  // instead of running, show what would be run with
  std::string log_level = "warning";
  std::string command_log_level;  // given behind a subcommand: wins; empty: none was
  // What is wrong with the flags together, of all subcommands; each is asked once they were read.
  std::vector<std::function<absl::Status()>> checks;
};

using RegisterFunction = void (*)(CLI::App& app, CommandContext& context);

// Adds a subcommand to `parent` (the application, or another subcommand such as "experts"). `run`
// is called once, after all flags were read.
CLI::App* AddCommand(CLI::App& parent, CommandContext& context, const std::string& name,
                     const std::string& description, CommandFunction run);

// Adds a subcommand that only holds others.
CLI::App* AddCommandGroup(CLI::App& parent, const std::string& name,
                          const std::string& description);

// What a flag's value has to be; what it is not is a usage error that names the flag. Owned by the
// command.
class Flag {
 public:
  explicit Flag(CLI::Option* option) : option_(option) {}

  Flag Required();
  // Both ends are allowed.
  Flag Range(int64_t least, int64_t most);
  Flag Range(int least, int most);
  Flag Range(double least, double most);
  Flag Positive();
  Flag NonNegative();
  Flag OneOf(const std::vector<std::string>& values);
  // `problem` says what is wrong with a value; empty: nothing.
  Flag Check(std::function<std::string(const std::string&)> problem);
  // A list takes one value each time the flag is given, so that none swallows what follows it.
  Flag OneValueEach();
  // What --help shows as the default, where the value's own text does not say it.
  Flag ShownDefault(const std::string& text);
  // Takes Required back, where a command shares flags with others but can do without this one.
  Flag Optional();
  Flag Help(const std::string& text);

 private:
  CLI::Option* option_;
};

// A flag with a value. What `value` holds now is the default; it must live until the command has
// run. T: std::string, int, int64_t, float, double, std::vector<std::string>.
template <typename T>
Flag AddFlag(CLI::App* command, const std::string& flag, T& value, const std::string& help);

// A flag that `command` has already.
Flag FindFlag(CLI::App* command, const std::string& flag);

// A value without a flag's name, `ccoe tokenize TEXT`.
Flag AddPositional(CLI::App* command, const std::string& name, std::string& value,
                   const std::string& help);

// A flag without a value; the environment variable takes "true" or "false".
void AddSwitch(CLI::App* command, const std::string& flag, bool& value, const std::string& help);

// The flags of a table; what it is bound to must live until the command has run.
void AddFlags(CLI::App* command, const services::FlagTable& flags);

// The same for a command that takes --config FILE and --print-config (docs/configuration.md). The
// application takes --config too; a file's sections are those of all such commands.
void AddConfigFlags(CLI::App* command, CommandContext& context, services::FlagTable flags);

// Makes it wrong usage to give one of `flags` on the command line of `command` while `when` holds
// (asked once all flags were read): "--server has no effect with --offline". `where` is "with
// --offline". Their environment variables may be set for other uses of the command.
void AddNoEffect(CLI::App* command, CommandContext& context, std::function<bool()> when,
                 const std::string& where, const std::vector<std::string>& flags);

// The environment variable of flag `flag` ("--kv-tokens") of `command`.
std::string EnvironmentName(const CLI::App& command, const std::string& flag);

// An error in how the command was called that CLI11 cannot see (flags that contradict each other):
// exit code 2.
absl::Status UsageError(absl::string_view message);

// A server's own failure, for its exit code: UNAVAILABLE (a port in use) means elsewhere that a
// client finds no server.
absl::Status AsServerFailure(const absl::Status& status);

// 0 for OK, 2 for a UsageError, 3 for UNAVAILABLE, else 1.
ExitCode ExitCodeFor(const absl::Status& status);

// Parses, runs the chosen subcommand, prints its error; returns the process's exit code.
int RunCommandLine(int argc, const char* const* argv, absl::Span<const RegisterFunction> commands);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_COMMAND_H_
