#include "services/cli/flags.h"

#include <cctype>

namespace ccoe::cli {
namespace {

// "--kv-tokens" and "kv-tokens" alike to "KV_TOKENS".
std::string Upper(const std::string& text) {
  std::string upper;
  for (char c : text.substr(text.find_first_not_of('-'))) {
    upper += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return upper;
}

}  // namespace

std::string EnvironmentName(const CLI::App& command, const std::string& flag) {
  std::string name = Upper(flag);
  for (const CLI::App* app = &command; app->get_parent() != nullptr; app = app->get_parent()) {
    name = Upper(app->get_name()) + "_" + name;
  }
  return "CCOE_" + name;
}

CLI::Option* AddSwitch(CLI::App* command, const std::string& flag, bool& value,
                       const std::string& help) {
  return command->add_flag(flag, value, help)->envname(EnvironmentName(*command, flag));
}

}  // namespace ccoe::cli
