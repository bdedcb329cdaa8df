// Flags that environment variables set too: --kv-tokens of `ccoe up` is CCOE_UP_KV_TOKENS, --base
// of `ccoe experts extract` is CCOE_EXPERTS_EXTRACT_BASE. The command line wins. --help shows both
// names and the default.
#ifndef CCOE_SERVICES_CLI_FLAGS_H_
#define CCOE_SERVICES_CLI_FLAGS_H_

#include <string>

#include "CLI/CLI.hpp"

namespace ccoe::cli {

// The environment variable of flag `flag` ("--kv-tokens") of `command`.
std::string EnvironmentName(const CLI::App& command, const std::string& flag);

// A flag with a value. What `value` holds now is the default; it must live until the command has
// run.
template <typename T>
CLI::Option* AddFlag(CLI::App* command, const std::string& flag, T& value,
                     const std::string& help) {
  return command->add_option(flag, value, help)
      ->capture_default_str()
      ->envname(EnvironmentName(*command, flag));
}

// A flag without a value; the environment variable takes "true" or "false".
CLI::Option* AddSwitch(CLI::App* command, const std::string& flag, bool& value,
                       const std::string& help);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_FLAGS_H_
