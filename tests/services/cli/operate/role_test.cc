// SPDX-License-Identifier: Apache-2.0
#include <signal.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "httplib.h"
#include "services/cli/commands.h"
#include "services/launcher/child_process.h"
#include "tests/testing/command_line.h"
#include "tests/testing/golden_bundles.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::cli {
namespace {

using ::ccoe::testing::GoldenFolder;
using services::ChildProcess;

constexpr char kProgram[] = "services/cli/ccoe";
constexpr RegisterFunction kCommands[] = {RegisterRouter, RegisterGateway, RegisterBackbone,
                                          RegisterExpert};

absl::Time Patience() { return absl::Now() + absl::Minutes(2); }

absl::StatusOr<std::unique_ptr<ChildProcess>> Start(std::vector<std::string> arguments) {
  arguments.push_back("--http=127.0.0.1:0");
  arguments.push_back(absl::StrCat("--announce-fd=", services::kAnnounceFd));
  return ChildProcess::Start(arguments[0], kProgram, arguments);
}

// The health of the role at "ADDRESS HTTP_ADDRESS".
int HealthStatus(const std::string& announcement) {
  const std::vector<std::string> addresses = absl::StrSplit(announcement, ' ');
  httplib::Client http("http://" + addresses.at(1));
  const auto result = http.Get("/healthz");
  return result ? result->status : 0;
}

// 200 within a minute or two.
bool AwaitHealthy(const std::string& announcement) {
  const absl::Time deadline = Patience();
  while (HealthStatus(announcement) != 200) {
    if (absl::Now() >= deadline) return false;
    absl::SleepFor(absl::Milliseconds(20));
  }
  return true;
}

TEST(RoleTest, TheRolesMakeAClusterAndDrain) {
  testing::TempFolder folder;
  ASSERT_OK(testing::ExtractGoldenBundles(folder.path(), {"law"}));
  const std::string model = "--model=" + GoldenFolder("ccoe/backbone");
  std::vector<std::unique_ptr<ChildProcess>> roles;
  const auto start = [&roles](const std::vector<std::string>& arguments) -> std::string {
    auto role = Start(arguments);
    if (!role.ok()) return std::string(role.status().message());
    roles.push_back(*std::move(role));
    auto line = roles.back()->ReadAnnouncement(Patience());
    return line.ok() ? *line : std::string(line.status().message());
  };
  const std::string router = start({"router", "--listen=127.0.0.1:0"});
  EXPECT_EQ(HealthStatus(router), 503);  // no backbone worker yet
  const std::string at = "--router=" + router.substr(0, router.find(' '));
  const std::string gateway = start({"gateway", model, at, "--listen=127.0.0.1:0"});
  EXPECT_EQ(HealthStatus(gateway), 503);
  const std::string expert =
      start({"expert", model, at, "--threads=1", "--bundle=" + (folder / "law")});
  EXPECT_EQ(HealthStatus(expert), 200);
  const std::string backbone = start({"backbone", model, at, "--threads=1"});
  EXPECT_EQ(HealthStatus(backbone), 200);
  EXPECT_TRUE(AwaitHealthy(router));
  EXPECT_TRUE(AwaitHealthy(gateway));
  while (!roles.empty()) {
    roles.back()->Signal(SIGTERM);
    ASSERT_TRUE(roles.back()->WaitUntil(Patience()));
    EXPECT_EQ(roles.back()->Poll(), "exit code 0") << roles.back()->name();
    roles.pop_back();
  }
}

TEST(RoleTest, AWorkerWithoutARouterFails) {
  ASSERT_OK_AND_ASSIGN(const auto worker,
                       Start({"backbone", "--model=" + GoldenFolder("ccoe/backbone"),
                              "--router=127.0.0.1:1", "--register-timeout=0.2"}));
  ASSERT_TRUE(worker->WaitUntil(Patience()));
  EXPECT_EQ(worker->Poll(), "exit code 1");
}

TEST(RoleTest, ARoleIsWhatItsConfigFileSays) {
  const std::string file = testing::WriteTemp(
      "roles.toml", "[router]\nlisten = \"127.0.0.1:0\"\nlease = 7\n[expert]\nthreads = 3\n");
  for (const std::string role : {"router", "gateway", "backbone", "expert"}) {
    const auto printed = testing::RunCcoe({role, "--config", file, "--print-config"}, kCommands);
    EXPECT_EQ(printed.exit_code, kExitOk) << printed.err;
    EXPECT_EQ(printed.out.find("announce-fd"), std::string::npos);
    const auto again = testing::RunCcoe(
        {"--config", testing::WriteTemp("printed.toml", printed.out), role, "--print-config"},
        kCommands);
    EXPECT_EQ(again.out, printed.out);
  }
  ASSERT_OK_AND_ASSIGN(const auto router, Start({"router", "--config=" + file}));
  ASSERT_OK(router->ReadAnnouncement(Patience()));
  ASSERT_OK_AND_ASSIGN(const auto wrong, Start({"router", "--config=" + file + ".not"}));
  ASSERT_TRUE(wrong->WaitUntil(Patience()));
  EXPECT_EQ(wrong->Poll(), "exit code 2");
}

TEST(RoleTest, TheExampleOfTheDocumentationIsRead) {
  std::ifstream page("docs/configuration.md");
  const std::string text(std::istreambuf_iterator<char>(page), {});
  const size_t begin = text.find("```toml\n") + 8;
  const std::string file =
      testing::WriteTemp("docs.toml", text.substr(begin, text.find("```", begin) - begin));
  constexpr RegisterFunction kAll[] = {RegisterUp, RegisterRouter, RegisterGateway,
                                       RegisterBackbone, RegisterExpert};
  for (const std::string command : {"up", "router", "gateway", "backbone", "expert"}) {
    const auto printed = testing::RunCcoe({command, "--config", file, "--print-config"}, kAll);
    EXPECT_EQ(printed.exit_code, kExitOk) << printed.err;
    EXPECT_NE(printed.out.find("\nmodel = \""), std::string::npos) << printed.out;
  }
}

TEST(RoleTest, EachRoleDocumentsItsFlags) {
  for (const std::string role : {"router", "gateway", "backbone", "expert"}) {
    const auto help = testing::RunCcoe({role, "--help"}, kCommands);
    EXPECT_EQ(help.exit_code, kExitOk);
    EXPECT_NE(help.out.find("--listen"), std::string::npos) << help.out;
    EXPECT_NE(help.out.find("CCOE_"), std::string::npos) << help.out;
  }
  EXPECT_EQ(testing::RunCcoe({"expert", "--bundle=x"}, kCommands).exit_code, kExitUsage);
}

}  // namespace

}  // namespace ccoe::cli
