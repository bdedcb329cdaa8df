// How a subcommand of `ccoe` is made. Each has a file of its own that holds its flags (a plain
// struct with defaults), a function that runs it, and a Register function that joins the two;
// main.cc lists the Register functions. As an example:
//
//   // greet.h
//   void RegisterGreet(CLI::App& app, CommandContext& context);
//
//   // greet.cc
//   struct GreetFlags {
//     std::string name;
//     int64_t times = 1;
//   };
//
//   absl::Status Greet(const GreetFlags& flags) { ... }
//
//   void RegisterGreet(CLI::App& app, CommandContext& context) {
//     auto flags = std::make_shared<GreetFlags>();
//     CLI::App* command = AddCommand(app, context, "greet", "Says hello.", [flags] { return
//     Greet(*flags); }); AddFlag(command, "--name", flags->name, "Whom to greet.")->required();
//     AddFlag(command, "--times", flags->times, "How often.")->check(CLI::Range(1, 100));
//   }
//
// Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the server cannot be reached. An error is printed
// to stderr as "ccoe greet: message"; what a program may read goes to stdout alone.
#ifndef CCOE_SERVICES_CLI_COMMAND_H_
#define CCOE_SERVICES_CLI_COMMAND_H_

#include <string>

#include "CLI/CLI.hpp"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "services/cli/flags.h"

namespace ccoe::cli {

enum ExitCode : int { kExitOk = 0, kExitFailed = 1, kExitUsage = 2, kExitUnavailable = 3 };

using CommandFunction = absl::AnyInvocable<absl::Status()>;

// What the command line chose; filled while CLI11 parses, run afterwards.
struct CommandContext {
  std::string name;  // "experts extract"
  CommandFunction run;
};

using RegisterFunction = void (*)(CLI::App& app, CommandContext& context);

// Adds a subcommand to `parent` (the application, or another subcommand such as "experts"). `run`
// is called once, after all flags were read.
CLI::App* AddCommand(CLI::App& parent, CommandContext& context, const std::string& name,
                     const std::string& description, CommandFunction run);

// Adds a subcommand that only holds others.
CLI::App* AddCommandGroup(CLI::App& parent, const std::string& name,
                          const std::string& description);

// An error in how the command was called that CLI11 cannot see (flags that contradict each other):
// exit code 2.
absl::Status UsageError(absl::string_view message);

// 0 for OK, 2 for a UsageError, 3 for UNAVAILABLE, else 1.
ExitCode ExitCodeFor(const absl::Status& status);

// Parses, runs the chosen subcommand, prints its error; returns the process's exit code.
int RunCommandLine(int argc, const char* const* argv, absl::Span<const RegisterFunction> commands);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_COMMAND_H_
