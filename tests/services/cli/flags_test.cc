#include "services/cli/flags.h"

#include <cstdlib>
#include <string>

#include "gtest/gtest.h"

namespace ccoe::cli {
namespace {

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

}  // namespace
}  // namespace ccoe::cli
