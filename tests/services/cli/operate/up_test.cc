// SPDX-License-Identifier: Apache-2.0
#include <signal.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "ccoe/v1/control.grpc.pb.h"
#include "ccoe/v1/inference.grpc.pb.h"
#include "gtest/gtest.h"
#include "httplib.h"
#include "services/cli/commands.h"
#include "services/common/channel_factory.h"
#include "services/common/status_to_grpc.h"
#include "services/launcher/child_process.h"
#include "services/launcher/role_options.h"
#include "tests/testing/command_line.h"
#include "tests/testing/golden_bundles.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::cli {
namespace {

using services::ChildProcess;

constexpr char kProgram[] = "services/cli/ccoe";
constexpr RegisterFunction kCommands[] = {RegisterUp};

absl::Time Patience() { return absl::Now() + absl::Minutes(2); }

class UpTest : public ::testing::Test {
 protected:
  // `ccoe up` with the golden model.
  absl::StatusOr<std::unique_ptr<ChildProcess>> Up(std::vector<std::string> arguments,
                                                   const std::string& listen = "127.0.0.1:0",
                                                   const std::string& http = "127.0.0.1:0") {
    std::vector<std::string> all = {"up",
                                    "--model=" + testing::GoldenFolder("ccoe/backbone"),
                                    "--listen=" + listen,
                                    "--http=" + http,
                                    "--threads=1",
                                    absl::StrCat("--announce-fd=", services::kAnnounceFd)};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return ChildProcess::Start("ccoe up", kProgram, all);
  }

  static std::vector<int32_t> Ask(const std::string& address, const std::string& text,
                                  const std::string& expert) {
    auto stub = v1::Inference::NewStub(*services::ChannelFactory(nullptr).Connect(address));
    v1::GenerateRequest request;
    request.set_text(text);
    request.set_expert(expert);
    request.mutable_sampling()->set_temperature(0);
    request.mutable_sampling()->set_max_tokens(32);
    request.mutable_sampling()->set_ignore_eos(true);
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(Patience()));
    auto reader = stub->Generate(&context, request);
    std::vector<int32_t> ids;
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
      for (const v1::Token& token : response.delta().tokens()) ids.push_back(token.id());
    }
    EXPECT_OK(services::FromGrpc(reader->Finish()));
    return ids;
  }

  testing::TempFolder folder_;
};

TEST_F(UpTest, ServesAnswersAndMetricsAndDrainsOnSigterm) {
  ASSERT_OK(testing::ExtractGoldenBundles(folder_.path(), {"math"}));
  ASSERT_OK_AND_ASSIGN(const auto up, Up({"--experts=" + folder_.path()}));
  ASSERT_OK_AND_ASSIGN(const std::string line, up->ReadAnnouncement(Patience()));
  const std::vector<std::string> addresses = absl::StrSplit(line, ' ');
  ASSERT_EQ(addresses.size(), 2u);
  const auto golden = testing::ReadGoldenPrompts("ccoe/math")[0];
  EXPECT_EQ(Ask(addresses[0], golden.text, "math"), golden.greedy_ids);
  httplib::Client http("http://" + addresses[1]);
  const auto health = http.Get("/healthz");
  ASSERT_TRUE(health);
  EXPECT_EQ(health->status, 200);
  const auto metrics = http.Get("/metrics");
  ASSERT_TRUE(metrics);
  EXPECT_NE(metrics->body.find("ccoe_gateway_"), std::string::npos);
  up->Signal(SIGTERM);
  ASSERT_TRUE(up->WaitUntil(Patience()));
  EXPECT_EQ(up->Poll(), "exit code 0");
}

TEST_F(UpTest, APortInUseIsAFailure) {
  ASSERT_OK_AND_ASSIGN(const auto first, Up({}));
  ASSERT_OK_AND_ASSIGN(const std::string line, first->ReadAnnouncement(Patience()));
  const std::vector<std::string> addresses = absl::StrSplit(line, ' ');
  ASSERT_OK_AND_ASSIGN(const auto second, Up({}, addresses[0]));
  ASSERT_TRUE(second->WaitUntil(Patience()));
  EXPECT_EQ(second->Poll(), "exit code 1");
  ASSERT_OK_AND_ASSIGN(const auto third, Up({}, "127.0.0.1:0", addresses[1]));
  ASSERT_TRUE(third->WaitUntil(Patience()));
  EXPECT_EQ(third->Poll(), "exit code 1");
}

TEST_F(UpTest, BadRulesAreAFailure) {
  std::ofstream(folder_ / "rules") << "rules { nonsense: 1 }";
  ASSERT_OK_AND_ASSIGN(const auto up, Up({"--rules=" + (folder_ / "rules")}));
  ASSERT_TRUE(up->WaitUntil(Patience()));
  EXPECT_EQ(up->Poll(), "exit code 1");
}

// An option that a role gains is one of `ccoe up` too, unless it is named here.
TEST_F(UpTest, OffersTheFlagsOfAllRoles) {
  const std::set<std::string> of_one_process = {
      "id",         // made up
      "bundle",     // --experts
      "router",     // within
      "advertise",  // within
  };
  services::RouterRole router;
  services::BackboneRole backbone;
  services::ExpertRole expert;
  services::GatewayRole gateway;
  const std::string help = testing::RunCcoe({"up", "--help"}, kCommands).out;
  for (const auto& table : {services::FlagsOf(router), services::FlagsOf(backbone),
                            services::FlagsOf(expert), services::FlagsOf(gateway)}) {
    for (const auto& flag : table.flags()) {
      const bool offered = help.find("--" + flag.name + " ") != std::string::npos;
      EXPECT_NE(offered, of_one_process.contains(flag.name)) << flag.name;
    }
  }
  EXPECT_NE(help.find("--expert-kv-tokens "), std::string::npos);
}

TEST_F(UpTest, TheProcessesAreToldWhatUpWasTold) {
  const std::string file = testing::WriteTemp(
      "up.toml", "[up]\nprocesses = true\nlease = 5\nexpert-workers = 1\nkv-tokens = 4096\n");
  setenv("CCOE_BACKBONE_KV_TOKENS", "8192", 1);  // of a role that is started alone
  ASSERT_OK(testing::ExtractGoldenBundles(folder_.path(), {"math"}));
  ASSERT_OK_AND_ASSIGN(const auto up, Up({"--config=" + file, "--experts=" + folder_.path()}));
  unsetenv("CCOE_BACKBONE_KV_TOKENS");
  ASSERT_OK_AND_ASSIGN(const std::string line, up->ReadAnnouncement(Patience()));
  const std::vector<std::string> addresses = absl::StrSplit(line, ' ');
  auto control = v1::Control::NewStub(*services::ChannelFactory(nullptr).Connect(addresses[0]));
  // Until the backbone worker has reported what it has.
  int64_t kv_tokens = 0;
  for (const absl::Time deadline = Patience(); kv_tokens == 0 && absl::Now() < deadline;) {
    grpc::ClientContext context;
    v1::ClusterStatus status;
    ASSERT_OK(services::FromGrpc(control->GetStatus(&context, {}, &status)));
    ASSERT_EQ(status.workers_size(), 2);
    for (const auto& worker : status.workers()) {
      if (worker.worker_id() == "backbone-0") kv_tokens = worker.load().kv_tokens_total();
    }
    absl::SleepFor(absl::Milliseconds(20));
  }
  EXPECT_EQ(kv_tokens, 4096);
  up->Signal(SIGTERM);
  ASSERT_TRUE(up->WaitUntil(Patience()));
  EXPECT_EQ(up->Poll(), "exit code 0");
}

TEST_F(UpTest, PrintsAConfigThatItReadsBack) {
  const auto printed = testing::RunCcoe({"up", "--threads=3", "--print-config"}, kCommands);
  EXPECT_EQ(printed.exit_code, kExitOk) << printed.err;
  EXPECT_NE(printed.out.find("\nthreads = 3\n"), std::string::npos);
  EXPECT_NE(printed.out.find("\n#expert-workers =  # 1 with layer experts"), std::string::npos);
  const auto again = testing::RunCcoe(
      {"up", "--print-config", "--config", testing::WriteTemp("printed.toml", printed.out)},
      kCommands);
  EXPECT_EQ(again.out, printed.out);
}

TEST_F(UpTest, WrongFlagsAndMissingModelsAreToldApart) {
  EXPECT_EQ(testing::RunCcoe({"up"}, kCommands).exit_code, kExitUsage);
  EXPECT_EQ(testing::RunCcoe({"up", "--model=x", "--expert-workers=65"}, kCommands).exit_code,
            kExitUsage);
  const auto missing = testing::RunCcoe({"up", "--model=/no/such/model"}, kCommands);
  EXPECT_EQ(missing.exit_code, kExitFailed);
  EXPECT_NE(missing.err.find("/no/such/model"), std::string::npos) << missing.err;
  EXPECT_EQ(testing::RunCcoe(
                {"up", "--model=" + testing::GoldenFolder("ccoe/backbone"), "--without-base-top"},
                kCommands)
                .exit_code,
            kExitUsage);
}

}  // namespace

}  // namespace ccoe::cli
