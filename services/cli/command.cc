// SPDX-License-Identifier: Apache-2.0
#include "services/cli/command.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <numeric>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"
#include "runtime/base/file.h"
#include "runtime/base/status_macros.h"
#include "runtime/telemetry/process_info.h"
#include "services/cli/output.h"

namespace ccoe::cli {
namespace {

constexpr char kUsagePayload[] = "ccoe.cli.usage";
constexpr int64_t kMaxConfigBytes = 1 << 20;

// "experts extract": the names on the way from the application to `command`.
std::string FullName(const CLI::App& command) {
  std::string name = command.get_name();
  for (const CLI::App* app = command.get_parent(); app != nullptr && app->get_parent() != nullptr;
       app = app->get_parent()) {
    name = app->get_name() + " " + name;
  }
  return name;
}

// Names the subcommand that the words before the error chose: "ccoe up", or "ccoe".
std::string ErrorPrefix(const CLI::App& app) {
  std::string prefix = "ccoe";
  for (const CLI::App* at = &app; !at->get_subcommands().empty();) {
    at = at->get_subcommands().front();
    prefix += " " + at->get_name();
  }
  return prefix;
}

// The first word that was left over and is no subcommand or flag of the command it follows, for
// people; empty: there is none.
std::string UnknownWord(const CLI::App& app) {
  const CLI::App* at = &app;
  while (!at->get_subcommands().empty()) at = at->get_subcommands().front();
  std::vector<std::string> commands, flags;
  for (const CLI::App* each : at->get_subcommands([](const CLI::App*) { return true; })) {
    commands.push_back(each->get_name());
  }
  for (const CLI::Option* each : at->get_options()) flags.push_back(each->get_name());
  for (const std::string& word : app.remaining(/*recurse=*/true)) {
    const bool flag = absl::StartsWith(word, "--");
    if (word.empty() || (flag ? flags : commands).empty() || (!flag && word[0] == '-')) continue;
    const std::string name = flag ? word.substr(0, word.find('=')) : word;
    return absl::StrCat("no ", flag ? "flag" : "subcommand", " \"", name, "\"",
                        services::DidYouMean(name, flag ? flags : commands));
  }
  return "";
}

// What a missing flag has to do with the config file.
std::string SectionMissing(const CLI::App& app, const CommandContext& context) {
  if (context.config_file.empty() || app.get_subcommands().empty()) return "";
  const std::string& name = app.get_subcommands().front()->get_name();
  if (!context.configured.contains(name) || context.sections.contains(name)) return "";
  return absl::StrCat("; ", context.config_file, " has no section [", name, "]");
}

int ReportParseError(const CLI::App& app, const CommandContext& context,
                     const CLI::ParseError& error) {
  if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
    app.exit(error, std::cout, std::cerr);  // --help
    const absl::Status written = FlushStandardOutput();
    if (!written.ok()) std::cerr << ErrorPrefix(app) << ": " << written.message() << "\n";
    return written.ok() ? kExitOk : kExitFailed;
  }
  const std::string prefix = ErrorPrefix(app), unknown = UnknownWord(app);
  std::cerr << prefix << ": "
            << (unknown.empty() ? error.what() + SectionMissing(app, context) : unknown) << "\n"
            << "Try \"" << prefix << " --help\".\n";
  return kExitUsage;
}

// Whether the command line has the flag, and not its environment variable alone.
bool OnCommandLine(const CLI::Option& option) {
  const std::string& variable = option.get_envname();
  return option.count() > 0 && (variable.empty() || std::getenv(variable.c_str()) == nullptr);
}

CLI::Option* AddLogFlag(CLI::App& command, std::string& level) {
  return command.add_option("--log", level, "Least severe messages to log to stderr.")
      ->check(CLI::IsMember({"info", "warning", "error"}))
      ->default_str("warning");
}

// "ccoe bench --rounds 3 memory": the flag is the other command's.
absl::Status CheckNoFlagBeforeSubcommand(const CLI::App& command) {
  const std::string chosen = command.get_subcommands().front()->get_name();
  for (const CLI::Option* option : command.get_options()) {
    if (option->check_lname("log") || !OnCommandLine(*option)) continue;
    return UsageError(absl::StrCat(option->get_name(), " before \"", chosen,
                                   "\" has no effect on it; a flag follows the subcommand that "
                                   "it is for"));
  }
  return absl::OkStatus();
}

void StartLogging(const std::string& level) {
  FLAGS_logtostderr = true;
  FLAGS_minloglevel = level == "info"      ? google::GLOG_INFO
                      : level == "warning" ? google::GLOG_WARNING
                                           : google::GLOG_ERROR;
  if (!google::IsGoogleLoggingInitialized()) google::InitGoogleLogging("ccoe");
}

// "--kv-tokens" and "kv-tokens" alike to "KV_TOKENS".
std::string Upper(const std::string& text) {
  std::string upper;
  for (char c : text.substr(text.find_first_not_of('-'))) {
    upper += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return upper;
}

std::string DefaultText(const services::FlagBinding& flag) {
  if (!flag.shown_default.empty()) return flag.shown_default;
  const std::string text = absl::StrJoin(flag.get(), ",");
  return flag.form == services::FlagBinding::Form::kList ? absl::StrCat("[", text, "]") : text;
}

// What `section` sets becomes the command's defaults: what the command line and the environment say
// is taken in afterwards.
absl::Status ApplySection(const services::ConfigSection& section, const std::string& file,
                          CommandContext& context) {
  const auto found = context.configured.find(section.name);
  if (found == context.configured.end()) {
    std::vector<std::string> known;
    for (const auto& [name, command] : context.configured) known.push_back(name);
    return absl::InvalidArgumentError(
        absl::StrCat(file, ":", section.line, ": expected a section of ",
                     absl::StrJoin(known, ", "), ", found [", section.name, "]"));
  }
  auto& [command, flags] = found->second;
  CCOE_RETURN_IF_ERROR(services::ReadConfigSection(section, file, flags));
  for (const services::FlagBinding& flag : flags.flags()) {
    CLI::Option* option = command->get_option("--" + flag.name);
    option->required(flag.required && !context.print_config);
    if (flag.form != services::FlagBinding::Form::kSwitch) option->default_str(DefaultText(flag));
  }
  return absl::OkStatus();
}

absl::Status ReadConfig(const std::string& file, CommandContext& context) {
  CCOE_ASSIGN_OR_RETURN(const std::string text, ReadFile(file, kMaxConfigBytes));
  CCOE_ASSIGN_OR_RETURN(const auto sections, services::ParseConfig(text, file));
  for (const services::ConfigSection& section : sections) {
    CCOE_RETURN_IF_ERROR(ApplySection(section, file, context));
    context.sections.insert(section.name);
  }
  context.config_file = file;
  return absl::OkStatus();
}

// Read as soon as it is parsed, before any flag's value is taken in.
void AddConfigFlag(CLI::App& app, CommandContext& context) {
  app.add_option_function<std::string>(
         "--config",
         [&context](const std::string& file) {
           const absl::Status read = Annotate(ReadConfig(file, context), "--config");
           if (!read.ok()) throw CLI::ValidationError(std::string(read.message()));
         },
         "Config file; what the command line and the environment say wins over it.")
      ->type_name("FILE")
      ->trigger_on_parse();
}

void AddBoundFlag(CLI::App* command, const services::FlagBinding& flag) {
  using Form = services::FlagBinding::Form;
  const std::string name = "--" + flag.name;
  const auto set = [flag, name, command](const std::vector<std::string>& values) {
    const absl::Status status = flag.set(values);
    if (!status.ok()) throw CLI::ValidationError(name, std::string(status.message()));
  };
  CLI::Option* option = nullptr;
  if (flag.form == Form::kSwitch) {
    // Each text is seen before the library makes a number of it, which ends the process for some.
    auto held = std::make_shared<bool>();
    option = command->add_flag(name, *held, flag.help);
    option->each([set, held](const std::string& value) { set({value}); });
  } else if (flag.form == Form::kList) {
    option = command->add_option_function<std::vector<std::string>>(name, set, flag.help);
  } else {
    option = command->add_option_function<std::string>(
        name, [set](const std::string& value) { set({value}); }, flag.help);
  }
  if (flag.form != Form::kSwitch) option->type_name(flag.type)->default_str(DefaultText(flag));
  option->required(flag.required)->envname(EnvironmentName(*command, flag.name));
}

// What `--print-config` shows of the chosen command.
absl::Status PrintConfig(const CommandContext& context) {
  const services::FlagTable& flags = context.configured.at(context.name).flags;
  std::cout << "# ccoe " << context.name << " --config FILE\n"
            << services::ConfigSectionText(context.name, flags, /*with_help=*/true);
  return absl::OkStatus();
}

// A file says nothing about a command that takes none.
absl::Status RunChosen(CommandContext& context) {
  if (context.print_config) return PrintConfig(context);
  if (!context.config_file.empty() && !context.configured.contains(context.name)) {
    return UsageError(absl::StrCat("--config: ", context.name, " takes no config file"));
  }
  return context.run();
}

}  // namespace

CLI::App* AddCommand(CLI::App& parent, CommandContext& context, const std::string& name,
                     const std::string& description, CommandFunction run) {
  CLI::App* command = parent.add_subcommand(name, description);
  AddLogFlag(*command, context.command_log_level);
  // With it, the variables of a command are read when the command is parsed, and only then: those
  // of others may be wrong.
  command->parse_complete_callback([] {});
  // CLI11 copies its callbacks, so the move-only function is held by a shared pointer.
  auto held = std::make_shared<CommandFunction>(std::move(run));
  command->callback([command, &context, held] {
    if (!command->get_subcommands().empty()) {  // "bench memory" is not "bench"
      context.checks.push_back([command] { return CheckNoFlagBeforeSubcommand(*command); });
      return;
    }
    context.name = FullName(*command);
    context.run = [&context, held] {
      for (const auto& check : context.checks) {
        if (absl::Status wrong = check(); !wrong.ok()) return wrong;
      }
      return (*held)();
    };
  });
  return command;
}

CLI::App* AddCommandGroup(CLI::App& parent, const std::string& name,
                          const std::string& description) {
  CLI::App* group = parent.add_subcommand(name, description);
  group->require_subcommand(1);
  return group;
}

Flag Flag::Required() {
  option_->required();
  return *this;
}

Flag Flag::Range(int64_t least, int64_t most) {
  option_->check(CLI::Range(least, most));
  return *this;
}

Flag Flag::Range(int least, int most) { return Range(int64_t{least}, int64_t{most}); }

Flag Flag::Range(double least, double most) {
  // NaN is within any two bounds, as comparisons go.
  option_->check([](const std::string& text) {
    double value = 0.0;
    return absl::SimpleAtod(text, &value) && std::isnan(value)
               ? absl::StrCat("expected a number, found ", text)
               : std::string();
  });
  option_->check(CLI::Range(least, most));
  return *this;
}

Flag Flag::Positive() {
  option_->check(CLI::PositiveNumber);
  return *this;
}

Flag Flag::NonNegative() {
  option_->check(CLI::NonNegativeNumber);
  return *this;
}

Flag Flag::OneOf(const std::vector<std::string>& values) {
  option_->check(CLI::IsMember(values));
  return *this;
}

Flag Flag::Check(std::function<std::string(const std::string&)> problem) {
  option_->check(std::move(problem));
  return *this;
}

Flag Flag::OneValueEach() {
  option_->allow_extra_args(false);
  return *this;
}

Flag Flag::ShownDefault(const std::string& text) {
  option_->default_str(text);
  return *this;
}

Flag Flag::Optional() {
  option_->required(false);
  return *this;
}

Flag Flag::Help(const std::string& text) {
  option_->description(text);
  return *this;
}

template <typename T>
Flag AddFlag(CLI::App* command, const std::string& flag, T& value, const std::string& help) {
  return Flag(command->add_option(flag, value, help)
                  ->capture_default_str()
                  ->envname(EnvironmentName(*command, flag)));
}

template Flag AddFlag(CLI::App*, const std::string&, std::string&, const std::string&);
template Flag AddFlag(CLI::App*, const std::string&, int&, const std::string&);
template Flag AddFlag(CLI::App*, const std::string&, int64_t&, const std::string&);
template Flag AddFlag(CLI::App*, const std::string&, float&, const std::string&);
template Flag AddFlag(CLI::App*, const std::string&, double&, const std::string&);
template Flag AddFlag(CLI::App*, const std::string&, std::vector<std::string>&, const std::string&);

Flag FindFlag(CLI::App* command, const std::string& flag) {
  return Flag(command->get_option(flag));
}

Flag AddPositional(CLI::App* command, const std::string& name, std::string& value,
                   const std::string& help) {
  return Flag(command->add_option(name, value, help));
}

void AddSwitch(CLI::App* command, const std::string& flag, bool& value, const std::string& help) {
  command->add_flag(flag, value, help)->envname(EnvironmentName(*command, flag));
}

void AddFlags(CLI::App* command, const services::FlagTable& flags) {
  for (const services::FlagBinding& flag : flags.flags()) AddBoundFlag(command, flag);
}

void AddConfigFlags(CLI::App* command, CommandContext& context, services::FlagTable flags) {
  AddFlags(command, flags);
  AddConfigFlag(*command, context);
  command
      ->add_flag_callback(
          "--print-config",
          [command, &context] {
            context.print_config = true;
            for (CLI::Option* option : command->get_options()) option->required(false);
          },
          "Print the config file of what would be run with, to start from, and end.")
      ->trigger_on_parse();
  context.configured[command->get_name()] = {command, std::move(flags)};
}

void AddNoEffect(CLI::App* command, CommandContext& context, std::function<bool()> when,
                 const std::string& where, const std::vector<std::string>& flags) {
  context.checks.push_back([command, when = std::move(when), where, flags] {
    for (const std::string& flag : flags) {
      if (!OnCommandLine(*command->get_option(flag)) || !when()) continue;
      return UsageError(absl::StrCat(flag, " has no effect ", where));
    }
    return absl::OkStatus();
  });
}

std::string EnvironmentName(const CLI::App& command, const std::string& flag) {
  std::string name = Upper(flag);
  for (const CLI::App* app = &command; app->get_parent() != nullptr; app = app->get_parent()) {
    name = Upper(app->get_name()) + "_" + name;
  }
  return "CCOE_" + name;
}

absl::Status UsageError(absl::string_view message) {
  absl::Status status = absl::InvalidArgumentError(message);
  status.SetPayload(kUsagePayload, absl::Cord());
  return status;
}

absl::Status AsServerFailure(const absl::Status& status) {
  if (!absl::IsUnavailable(status)) return status;
  return absl::FailedPreconditionError(status.message());
}

ExitCode ExitCodeFor(const absl::Status& status) {
  if (status.ok()) return kExitOk;
  if (status.GetPayload(kUsagePayload).has_value()) return kExitUsage;
  return status.code() == absl::StatusCode::kUnavailable ? kExitUnavailable : kExitFailed;
}

int RunCommandLine(int argc, const char* const* argv, absl::Span<const RegisterFunction> commands) {
  PrepareStandardOutput();
  CLI::App app("ccoe: one backbone, many experts, served as one language model.", "ccoe");
  app.require_subcommand(1);
  app.set_version_flag("--version", absl::StrCat("ccoe ", telemetry::kVersion));
  CommandContext context;
  AddConfigFlag(app, context);

  AddLogFlag(app, context.log_level)->envname("CCOE_LOG");
  for (RegisterFunction add : commands) add(app, context);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return ReportParseError(app, context, error);
  }
  if (!context.command_log_level.empty()) context.log_level = context.command_log_level;
  StartLogging(context.log_level);
  setenv("CCOE_LOG", context.log_level.c_str(),
         /*overwrite=*/1);  // for processes started by this one
  absl::Status status = RunChosen(context);
  status.Update(FlushStandardOutput());
  if (!status.ok()) std::cerr << "ccoe " << context.name << ": " << status.message() << "\n";
  return ExitCodeFor(status);
}

}  // namespace ccoe::cli
